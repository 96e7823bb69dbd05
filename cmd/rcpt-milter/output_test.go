package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

var update = flag.Bool("update", false, "write the files in testdata instead of comparing with them")

func compare(t testing.TB, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s (-want +got):\n%s", file, cmp.Diff(string(want), got))
	}
}

// compareAt compares the output of commands with a file, without the directory of the rig.
func (r *rig) compareAt(file, got string) {
	r.t.Helper()
	compare(r.t, file, strings.ReplaceAll(got, r.dir, "DIR"))
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// before returns the time so long before noon.
func before(d time.Duration) control.Time { return control.Time{Time: noon.Add(-d)} }

// pageApp writes to a buffer at noon.
func pageApp() (*app, *bytes.Buffer) {
	var out bytes.Buffer
	return &app{stdout: &out, stderr: &out, now: func() time.Time { return noon }}, &out
}

// consoleStatus reads a status from the tests of control/console: fresh, or troubled, with every kind of
// problem.
func consoleStatus(t *testing.T, name string) (s control.Status) {
	t.Helper()
	encoded, err := os.ReadFile("../../control/console/testdata/status-" + name + ".json")
	if err == nil {
		err = json.Unmarshal(encoded, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatusExit(t *testing.T) {
	consoleStatus := func(name string) control.Status { return consoleStatus(t, name) }
	status := func(state control.State, d control.DirectoryStatus) control.Status {
		return control.Status{State: state, Directories: []control.DirectoryStatus{{State: control.Fresh}, d}}
	}
	for _, c := range []struct {
		what string
		s    control.Status
		want int
	}{
		{"without troubles", consoleStatus("fresh"), exitOK},
		{"every kind of problem", consoleStatus("troubled"), exitTemporary},
		{"fresh", status(control.Fresh, control.DirectoryStatus{State: control.Fresh}), 0},
		{"late", status(control.Late, control.DirectoryStatus{State: control.Late}), 1},
		{"failing", status(control.Fresh, control.DirectoryStatus{State: control.Fresh, LastError: "down"}), 1},
		{"held", status(control.Fresh, control.DirectoryStatus{State: control.Fresh, HeldRemovals: 1}), 1},
		{"reload refused", control.Status{State: control.Fresh, ReloadError: "bad"}, 1},
		{"an alarm", control.Status{State: control.Fresh, Alarms: []string{"known"}}, 1},
		{"a closed page", control.Status{State: control.Fresh, Listeners: []control.ListenerStatus{
			{Name: control.ListenerPage, Trouble: "gone"}}}, 1},
		{"a closed milter socket", control.Status{State: control.Fresh, Listeners: []control.ListenerStatus{
			{Name: control.ListenerMilter, Trouble: "gone"}}}, 2},
		{"open listeners", control.Status{State: control.Fresh, Listeners: []control.ListenerStatus{
			{Name: control.ListenerMilter, AtLimit: 1}}}, 0},
		{"a domain without addresses", control.Status{State: control.Fresh, EmptyDomains: []string{"x.test"}}, 2},
		{"a store that cannot be read", control.Status{State: control.Fresh, StoreState: control.StoreFailed,
			Alarms: []string{"store"}}, 2},
		{"a damaged store", control.Status{State: control.Fresh, StoreState: control.StoreDamaged,
			Alarms: []string{"store"}}, 2},
		{"a store without disk space", control.Status{State: control.Fresh, StoreState: control.StoreReadOnly,
			Alarms: []string{"store"}}, 1},
		{"an accept file", control.Status{State: control.Fresh, AcceptFiles: []control.AcceptFile{{Unread: 1}}}, 0},
		{"an accept file that vanished", control.Status{State: control.Fresh,
			AcceptFiles: []control.AcceptFile{{Trouble: "gone"}}}, 1},
		{"stale", status(control.Stale, control.DirectoryStatus{State: control.Stale, LastError: "down"}), 2},
		{"not ready", status(control.NotReady, control.DirectoryStatus{State: control.NotReady}), 2},
		{"one of two", status(control.Fresh, control.DirectoryStatus{State: control.Stale}), 2},
		{"unheard of", status("melted", control.DirectoryStatus{State: control.Fresh}), 2},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := statusExit(c.s); got != c.want {
				t.Errorf("exit status %d, want %d", got, c.want)
			}
		})
	}
}

func TestLookupExit(t *testing.T) {
	for outcome, want := range map[control.Outcome]int{control.Accepted: exitOK, control.Refused: exitFailure,
		control.Deferred: exitTemporary, "unheard of": exitTemporary} {
		t.Run(string(outcome), func(t *testing.T) {
			if got := lookupExit(control.LookupAnswer{Outcome: outcome}); got != want {
				t.Errorf("exit status %d, want %d", got, want)
			}
		})
	}
}

// TestNothingReachesTheTerminal fills what a command prints with control characters.
func TestNothingReachesTheTerminal(t *testing.T) {
	const hostile = "x\x1b[31m\u009b2J\u202e\u2028\U000e0001\r\ny"
	s := control.Status{Version: hostile, Alarms: []string{hostile}}
	l := control.LookupAnswer{Address: hostile, Reply: hostile}
	running := control.SyncEvent{Directory: hostile, Kind: hostile, Seen: 1, Started: before(time.Minute)}
	ended := running
	ended.Pass = &control.PassStatus{Result: hostile}
	name := control.RefusedName{Name: hostile, Refused: 1, First: before(time.Hour), Last: before(time.Minute)}
	address := control.RefusedAddress{RefusedName: name, Network: hostile, Verdict: hostile, Now: hostile}
	refused := control.Report{From: before(time.Hour), Refused: 1, Incomplete: hostile,
		Verdicts:  map[string]int64{hostile: 1},
		Addresses: []control.RefusedAddress{address}, Domains: []control.RefusedName{name},
		Networks: []control.RefusedName{name}, NearMisses: []control.NearMiss{{RefusedAddress: address,
			Known: []string{hostile}}}}
	for _, c := range []struct {
		what  string
		print func(a *app) error
	}{
		{"status", func(a *app) error { return a.printStatus(s) }},
		{"lookup", func(a *app) error { return a.printLookup(l) }},
		{"status --json", func(a *app) error { return text.WriteJSON(a.stdout, s) }},
		{"lookup --json", func(a *app) error { return text.WriteJSON(a.stdout, l) }},
		{"report", func(a *app) error { return a.printReport(refused, 0) }},
		{"report --json", func(a *app) error { return text.WriteJSON(a.stdout, refused) }},
		{"sync", func(a *app) error {
			p := newProgress(a, true)
			p.event(running)
			p.Progress = terminal.Progress{Out: a.stdout} // its line is ours to clear
			p.event(ended)
			return nil
		}},
		{"an error", func(a *app) error { a.report(&exitError{1, errorText(s.Version)}); return nil }},
	} {
		t.Run(c.what, func(t *testing.T) {
			a, out := pageApp()
			if err := c.print(a); err != nil {
				t.Fatal(err)
			}
			if bad := strings.IndexAny(out.String(), "\x1b\u009b\u202e\u2028\U000e0001\r"); bad >= 0 {
				t.Errorf("%q reaches the terminal", out.String()[bad:min(bad+20, out.Len())])
			}
			if !strings.Contains(out.String(), `31m`) {
				t.Error("the text is missing")
			}
		})
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }

// TestPrintJSON: what was escaped reads as it was.
func TestPrintJSON(t *testing.T) {
	want := control.LookupAnswer{Address: "\x1b\u202e\U000e0001<&>ü\n\"\\"}
	var out bytes.Buffer
	if err := text.WriteJSON(&out, want); err != nil {
		t.Fatal(err)
	}
	var got control.LookupAnswer
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Address != want.Address {
		t.Errorf("%q comes back as %q, %v", want.Address, got.Address, err)
	}
}
