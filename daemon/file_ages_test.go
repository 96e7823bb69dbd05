package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control/metrics"
	"rcpt-milter/internal/clock"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// agedFiles are accept files, the configuration that judges them, and an index with a clock.
type agedFiles struct {
	t     *testing.T
	dir   string
	files *tables.Files
	store *store.Store
	clock time.Time
}

// newAgedFiles writes the files by name, each modified this long before noon.
func newAgedFiles(t *testing.T, files map[string]string, ages map[string]time.Duration) *agedFiles {
	f := &agedFiles{t: t, dir: t.TempDir(), files: tables.NewFiles(tables.Config{}), store: newTestStore(t),
		clock: noon}
	var paths []string
	for _, name := range []string{"old", "new"} {
		if text, ok := files[name]; ok {
			paths = append(paths, f.write(name, text, ages[name]))
		}
	}
	p, err := f.files.Prepare(paths)
	if err != nil {
		t.Fatal(err)
	}
	f.files.Use(p)
	return f
}

func (f *agedFiles) write(name, text string, age time.Duration) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, noon.Add(-age)); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// doubt makes a start with a copy of the file "new" that has changed and is gone.
func (f *agedFiles) doubt() {
	f.t.Helper()
	paths := []string{filepath.Join(f.dir, "old"), filepath.Join(f.dir, "new")}
	for range 2 {
		f.files = tables.NewFiles(tables.Config{Copies: tables.Copies{Dir: filepath.Join(f.dir, copiesDir)}})
		p, err := f.files.Prepare(paths)
		if err != nil {
			f.t.Fatal(err)
		}
		f.files.Use(p)
		os.Remove(paths[1])
	}
}

func (f *agedFiles) ages(max time.Duration) fileAges {
	return fileAges{f.files, max, func() time.Time { return f.clock }}
}

// decide asks the policy of the daemon, without directories.
func (f *agedFiles) decide(c *config.Config, recipient string) policy.Decision {
	f.t.Helper()
	p, err := newPolicy(c, index{store: f.store, ages: f.ages(c.AcceptFilesMaxAge)}, f.files, queryChecks{},
		func() time.Time { return f.clock })
	if err != nil {
		f.t.Fatal(err)
	}
	return p.Decide(f.t.Context(), policy.Query{Recipient: recipient})
}

// fileFed returns the configuration of a host without a directory.
func fileFed(max time.Duration) *config.Config {
	return &config.Config{AcceptFilesMaxAge: max, Domains: map[string]config.Mode{"old.example": config.Enforce,
		"new.example": config.Enforce, "both.example": config.Enforce, "alias.example": config.Enforce,
		"none.example": config.Enforce, "report.example": config.Report, ".sub.example": config.Enforce}}
}

// TestStaleAcceptFile: a stale file makes nobody unknown in the domains that it names, and nothing
// else changes.
func TestStaleAcceptFile(t *testing.T) {
	f := newAgedFiles(t, map[string]string{
		"old": "ann@old.example OK\nann@both.example OK\n@alias.example " +
			"@new.example\nann@a.sub.example\nann@report.example",
		"new": "ann@new.example OK\nbob@both.example OK\nann@b.sub.example\n",
	}, map[string]time.Duration{"old": 50 * time.Hour, "new": time.Hour})
	for _, c := range []struct {
		name, recipient string
		max             time.Duration
		want            string // the beginning of the reply; empty: continue
		verdict         policy.Verdict
	}{
		{"unknown, off", "no@old.example", 0, "550 5.1.1", policy.VerdictUnknown},
		{"unknown, not yet", "no@old.example", 51 * time.Hour, "550 5.1.1", policy.VerdictUnknown},
		{"unknown at the limit", "no@old.example", 50 * time.Hour, "550 5.1.1", policy.VerdictUnknown},
		{"unknown, stale", "no@old.example", 50*time.Hour - 1, "451 4.3.0", policy.VerdictStale},
		{"known, stale", "ann@old.example", time.Nanosecond, "", policy.VerdictAllowlisted},
		{"unknown, the domain of another file", "no@new.example", 2 * time.Hour, "550 5.1.1", policy.VerdictUnknown},
		{"unknown, in a stale file and in another", "no@both.example", 2 * time.Hour, "451 4.3.0", policy.VerdictStale},
		{"known in the other", "bob@both.example", 2 * time.Hour, "", policy.VerdictAllowlisted},
		{"unknown, an alias", "no@alias.example", 2 * time.Hour, "451 4.3.0", policy.VerdictStale},
		{"known by an alias", "ann@alias.example", 2 * time.Hour, "", policy.VerdictAllowlisted},
		{"unknown, an alias, off", "no@alias.example", 0, "550 5.1.1", policy.VerdictUnknown},
		{"unknown, a sub-domain", "no@a.sub.example", 2 * time.Hour, "451 4.3.0", policy.VerdictStale},
		{"unknown, its sibling", "no@b.sub.example", 2 * time.Hour, "550 5.1.1", policy.VerdictUnknown},
		{"a domain that no file names", "no@none.example", 2 * time.Hour, "451 4.3.0", policy.VerdictNotReady},
		{"a domain that no file names, off", "no@none.example", 0, "451 4.3.0", policy.VerdictNotReady},
		{"report", "no@report.example", 2 * time.Hour, "", policy.VerdictStale},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := f.decide(fileFed(c.max), c.recipient)
			if got := d.Reply.String(); d.Verdict != c.verdict || !strings.HasPrefix(got, c.want) ||
				d.Reply.IsContinue() != (c.want == "") {
				t.Errorf("%s: %q (%s), want %q (%s)", c.recipient, got, d.Verdict, c.want, c.verdict)
			}
			if names := strings.Contains(d.Reason,
				filepath.Join(f.dir, "old")); names != (d.Verdict == policy.VerdictStale) {
				t.Errorf("reason: %s", d.Reason)
			}
		})
	}
}

// TestAgeOfAcceptFile: the age is that of the copy in effect, by the clock of this host.
func TestAgeOfAcceptFile(t *testing.T) {
	const max = 24 * time.Hour
	for _, c := range []struct {
		name string
		age  time.Duration // at noon
		then func(*agedFiles)
		want policy.State
	}{
		{"new", 0, nil, policy.Fresh},
		{"a file server's clock a little ahead", -time.Second, nil, policy.Fresh},
		{"as far ahead as clocks may be", -clock.Slack, nil, policy.Fresh},
		{"of the future", -clock.Slack - 1, nil, policy.Stale},
		{"of the future, reached", -time.Hour, func(f *agedFiles) { f.clock = noon.Add(time.Hour) }, policy.Fresh},
		{"by time alone", time.Hour, func(f *agedFiles) { f.clock = noon.Add(max) }, policy.Stale},
		{"the epoch", noon.Sub(time.Unix(0, 0)), nil, policy.Stale},
		{"a new version", 48 * time.Hour, func(f *agedFiles) {
			f.write("old", "ann@old.example\nbob@old.example\n", time.Minute)
			f.files.Pass()
			f.files.Pass()
		}, policy.Fresh},
		{"touched", 48 * time.Hour, func(f *agedFiles) {
			f.write("old", "ann@old.example\n", time.Minute)
			f.files.Pass()
			f.files.Pass()
		}, policy.Fresh},
		{"a new version that is not read yet", 48 * time.Hour, func(f *agedFiles) {
			f.write("old", "ann@old.example\nbob@old.example\n", time.Minute)
			f.files.Pass()
		}, policy.Stale},
		{"a new version that is empty", 48 * time.Hour, func(f *agedFiles) {
			f.write("old", "", time.Minute)
			f.files.Pass()
			f.files.Pass()
		}, policy.Stale},
		{"gone, by time", time.Hour, func(f *agedFiles) {
			os.Remove(filepath.Join(f.dir, "old"))
			f.files.Pass()
			f.clock = noon.Add(max)
		}, policy.Stale},
		{"gone", time.Hour, func(f *agedFiles) {
			os.Remove(filepath.Join(f.dir, "old"))
			f.files.Pass()
		}, policy.Fresh},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newAgedFiles(t, map[string]string{"old": "ann@old.example\n"}, map[string]time.Duration{"old": c.age})
			if c.then != nil {
				c.then(f)
			}
			states := f.ages(max).states()
			if got := f.ages(max).freshness("old.example"); got.State != c.want || len(states) != 1 ||
				states[0].state != c.want {
				t.Errorf("freshness %+v, states %+v, want %s", got, states, c.want)
			}
		})
	}
}

// TestWorstOfFileAndDirectory: a domain that a file names and a directory owns has the worse of the
// two states.
func TestWorstOfFileAndDirectory(t *testing.T) {
	for _, c := range []struct {
		name, domain string
		read         bool // the directory has been read
		age          time.Duration
		want         policy.Freshness
	}{
		{"both stale", "stale.example", true, 48 * time.Hour, policy.Freshness{State: policy.Stale, Directory: "corp"}},
		{"both stale, the file in doubt", "doubt.example", true, time.Hour, policy.Freshness{State: policy.Stale}},
		{"not ready, the file in doubt", "doubt.example", false, time.Hour,
			policy.Freshness{State: policy.NotReady, Directory: "corp"}},
		{"both fresh", "old.example", true, time.Hour, policy.Freshness{State: policy.Fresh, Directory: "corp"}},
		{"the file is stale", "old.example", true, 48 * time.Hour, policy.Freshness{State: policy.Stale}},
		{"the directory is not ready", "old.example", false, 48 * time.Hour,
			policy.Freshness{State: policy.NotReady, Directory: "corp"}},
		{"a domain of the directory only", "corp.example", true, 48 * time.Hour,
			policy.Freshness{State: policy.Fresh, Directory: "corp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newAgedFiles(t, map[string]string{"old": "ann@old.example\n"}, map[string]time.Duration{"old": c.age})
			ad, _, d := newTestDirectory(t)
			if _, err := ad.Add(adsim.User, "CN=jane,CN=Users,"+base,
				adsim.Attrs{"mail": {"jane@corp.example"}}); err != nil {
				t.Fatal(err)
			}
			syncs := newSyncManager(f.store, metrics.New("test"), slog.New(slog.DiscardHandler))
			limit := time.Hour
			if strings.Contains(c.name, "both stale") {
				limit = time.Nanosecond
			}
			if c.domain == "doubt.example" {
				f.write("new", "ann@new.example\n", 0)
				f.doubt()
			}
			m, err := mirror.New(syncs.mirrorConfig(&config.Config{LateAfter: limit, StaleAfter: limit}, d, nil))
			if err != nil {
				t.Fatal(err)
			}
			if c.read {
				if r := m.Pass(t.Context(), true); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
			got := index{f.store, directorySet{{m, d}}, f.ages(24 * time.Hour)}.Freshness(c.domain)
			if got.State != c.want.State || got.Directory != c.want.Directory ||
				(got.File != "") != (got.Directory == "") {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestFileStatesAreLogged: a file becomes stale by time and fresh by a new version, once each. The
// index follows.
func TestFileStatesAreLogged(t *testing.T) {
	f := newAgedFiles(t, map[string]string{"old": "ann@old.example\n", "new": "ann@new.example\n"},
		map[string]time.Duration{"old": 23 * time.Hour, "new": 0})
	log, out := newTestLog()
	states := newStateLog(func() []observedState { return f.ages(day).states() }, log,
		func() time.Time { return f.clock })
	old := filepath.Join(f.dir, "old")
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"fresh from the start", func() {}, ""},
		{"stale", func() { f.clock = noon.Add(2 * time.Hour) },
			`level=ERROR msg="accept file state changed" file=` + old + " state=stale was=fresh lasted=2h0m0s " +
				"modified=2026-03-03T13:00:00Z age=25h0m0s\n" +
				`level=ERROR msg="index state changed" state=stale was=fresh lasted=2h0m0s directories="" files=` +
				old + "\n"},
		{"a new version", func() {
			f.write("old", "bob@old.example\n", 0)
			f.files.Pass()
			f.files.Pass()
		}, `level=INFO msg="accept file state changed" file=` + old + " state=fresh was=stale lasted=0s " +
			"modified=2026-03-04T12:00:00Z age=2h0m0s\n" +
			`level=INFO msg="index state changed" state=fresh was=stale lasted=0s directories="" files="` + old + " " +
			filepath.Join(f.dir, "new") + "\"\n"},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.do()
			out.Reset()
			for range 3 {
				states.Check()
			}
			if got := out.String(); got != step.want {
				t.Errorf("logged\n%swant\n%s", got, step.want)
			}
		})
	}
}
