package daemon

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/internal/logging"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// TestFileInDoubt: as long as the last good copy of a file is damaged and no reload has come, no recipient of
// any domain is unknown.
func TestFileInDoubt(t *testing.T) {
	f := newAgedFiles(t, map[string]string{"new": "ann@new.example OK\nann@both.example OK\n"}, nil)
	at := store.Config{Dir: f.dir}
	d := newDaemon(Options{Log: logging.New(io.Discard, "test", logging.Options{}), Config: fileFed(0)})
	use := func() {
		t.Helper()
		p, err := f.files.Prepare([]string{filepath.Join(f.dir, "new")})
		if err != nil {
			t.Fatal(err)
		}
		f.files.Use(p)
	}
	f.files = d.newAcceptFiles(t.Context(), at)
	use()
	c := fileFed(0)
	c.Store.Dir, c.AcceptFiles = f.dir, []string{filepath.Join(f.dir, "new"), filepath.Join(f.dir, "old")}
	if got := filesWithCopy(c); !slices.Equal(got, c.AcceptFiles[:1]) {
		t.Fatalf("files with a copy: %q", got)
	}
	copies, err := filepath.Glob(filepath.Join(copiesOf(c), "*"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("copies %q, %v", copies, err)
	}
	if err := os.Truncate(copies[0], 30); err != nil {
		t.Fatal(err)
	}
	f.files = d.newAcceptFiles(t.Context(), at)
	use()
	for _, c := range []struct {
		name, recipient string
		whenStale       policy.Fallback
		want            string // the beginning of the reply; empty: continue
	}{
		{"known", "ann@new.example", policy.FallbackTempfail, ""},
		{"unknown", "no@new.example", policy.FallbackTempfail, "451 4.3.0"},
		{"unknown, when_stale: accept", "no@new.example", policy.FallbackAccept, ""},
		{"unknown, when_stale: refuse", "no@new.example", policy.FallbackRefuse, "451 4.3.0"},
		{"a domain that the file does not name", "no@alias.example", policy.FallbackTempfail, "451 4.3.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			with := fileFed(0)
			with.WhenStale = c.whenStale
			got := f.decide(with, c.recipient)
			if !strings.HasPrefix(got.Reply.String(), c.want) || got.Reply.IsContinue() != (c.want == "") {
				t.Errorf("%s: %q (%s)", c.recipient, got.Reply, got.Verdict)
			}
			if got.Verdict == policy.VerdictStale && !strings.Contains(got.Reason, "may lack entries") {
				t.Errorf("reason: %s", got.Reason)
			}
		})
	}
	states := f.ages(0).states()
	if len(states) != 1 || states[0].state != policy.Stale || states[0].cause() == nil {
		t.Errorf("states in doubt: %+v", states)
	}
	use() // a reload
	if states := f.ages(0).states(); len(states) != 1 || states[0].state != policy.Fresh || states[0].cause() != nil {
		t.Errorf("states after a reload: %+v", states)
	}
	if got := f.decide(fileFed(0), "no@new.example"); got.Verdict != policy.VerdictUnknown {
		t.Errorf("after a reload: %s", got.Verdict)
	}
}

// TestCopyAlarm: a copy that cannot be written is an alarm.
func TestCopyAlarm(t *testing.T) {
	file := filepath.Join(t.TempDir(), "one")
	if err := os.WriteFile(file, []byte("ann@corp.example OK\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := func(at *store.Config) {
		at.FreeSpace = func(dir string) (uint64, error) {
			if filepath.Base(dir) == copiesDir {
				return 0, nil
			}
			return 1 << 40, nil
		}
	}
	d := openConfiguredDaemon(t, "accept_files: ["+file+"]\n", func(d *daemon) { d.changeStore = full })
	s, err := backend{d, time.Now(), time.Now}.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.Alarms, func(alarm string) bool { return strings.Contains(alarm, file) }) {
		t.Errorf("alarms %q", s.Alarms)
	}
}
