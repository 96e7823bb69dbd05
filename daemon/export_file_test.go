package daemon

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/store"
)

// exportTest is an exportFile over a store, whose commands a test counts.
type exportTest struct {
	*exportFile
	t     *testing.T
	store *store.Store
	use   *config.Config
	state control.State // of the directory
	ran   int           // how often the command ran
	fails error         // of the command
	log   *bytes.Buffer
}

func newExportTest(t *testing.T, s *store.Store, addresses ...string) *exportTest {
	t.Helper()
	if addresses != nil {
		addAddresses(t, s, "corp", addresses...)
	}
	log, out := newTestLog()
	x := &exportTest{t: t, store: s, state: control.Fresh, log: out, use: &config.Config{
		Domains: map[string]config.Mode{"corp.example": config.Enforce},
		Export: config.Export{File: filepath.Join(t.TempDir(), "relay_recipients"), Format: "postmap",
			Command: []string{"postmap", "lmdb:relay_recipients"}, Every: time.Hour, Timeout: time.Minute}}}
	x.exportFile = &exportFile{log: log, now: func() time.Time { return noon },
		config: func() *config.Config { return x.use },
		exporter: func(c *config.Config, q control.ExportQuery) (exporter, error) {
			e := newTestExporter(t, c, s, q)
			e.directories[0].State = x.state
			return e, nil
		},
		health: s.Health, changed: make(chan struct{}, 1), pending: true,
		run: func(context.Context, []string, time.Duration) error { x.ran++; return x.fails }}
	return x
}

// pass runs a pass, and checks the keys of the file, its status and how often the command ran.
func (x *exportTest) pass(what, keys, held, trouble string, ran int) {
	x.t.Helper()
	x.ran = 0
	x.Pass(x.t.Context())
	var got []string
	text, _ := os.ReadFile(x.use.Export.File)
	for line := range strings.Lines(string(text)) {
		if key, _, ok := strings.Cut(line, "\t"); ok && line[0] != '#' {
			got = append(got, key)
		}
	}
	if d := cmp.Diff(keys, strings.Join(got, " ")); d != "" {
		x.t.Errorf("%s: keys (-want +got):\n%s", what, d)
	}
	s := x.Status()
	if s == nil || s.Held != held || trouble == "" && s.Trouble != "" || !strings.Contains(s.Trouble, trouble) {
		x.t.Errorf("%s: status %+v, want held %q, trouble %q", what, s, held, trouble)
	}
	if x.ran != ran {
		x.t.Errorf("%s: the command ran %d times, want %d", what, x.ran, ran)
	}
}

// TestExportFile: the file follows the index, the lists and the configuration. The command runs
// only after a change, at the start, and after it failed.
func TestExportFile(t *testing.T) {
	s := newTestStore(t)
	x := newExportTest(t, s, "ann@corp.example", "!staff@corp.example")
	x.pass("first", "ann@corp.example staff@corp.example", "", "", 1)
	x.pass("unchanged", "ann@corp.example staff@corp.example", "", "", 0)
	addAddresses(t, s, "corp", "ann@corp.example", "!staff@corp.example", "bob@corp.example")
	x.fails = errors.New("no such table type")
	x.pass("a new recipient, the command fails", "ann@corp.example bob@corp.example staff@corp.example", "",
		"no such table", 1)
	x.pass("the command fails again", "ann@corp.example bob@corp.example staff@corp.example", "", "no such table", 1)
	x.fails = nil
	x.pass("it succeeds", "ann@corp.example bob@corp.example staff@corp.example", "", "", 1)
	if n := strings.Count(x.log.String(), "export failed"); n != 1 {
		t.Errorf("the failure was logged %d times:\n%s", n, x.log)
	}
	remove(t, s, "corp", 3)
	x.pass("a removal", "ann@corp.example staff@corp.example", "", "", 1)
	if err := os.WriteFile(x.use.Export.File, []byte("mallory@corp.example\tOK\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.pass("changed by another program", "ann@corp.example staff@corp.example", "", "", 1)
	next := *x.use
	next.Domains = map[string]config.Mode{"corp.example": config.Report}
	x.use = &next
	x.pass("mode report", "ann@corp.example staff@corp.example @corp.example", "", "", 1)
	again := *x.use
	x.use = &again
	x.pass("a reload without a change", "ann@corp.example staff@corp.example @corp.example", "", "", 0)
	if s := x.Status(); s.Entries != 3 || s.Written.Time != noon || s.Current.Time != noon {
		t.Errorf("status %+v", s)
	}
	x.use = &config.Config{Domains: x.use.Domains}
	if x.Pass(t.Context()); x.Status() != nil {
		t.Errorf("status without a file: %+v", x.Status())
	}
}

// TestExportFileKeepsLastGood: whatever makes the index doubtful, the last good file stays.
func TestExportFileKeepsLastGood(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(*exportTest)
		held   string
		reason string
	}{
		{"damaged", func(x *exportTest) {
			x.health = func() store.Health { return store.Health{State: store.Damaged} }
		}, "the store is damaged", ""},
		{"unreadable", func(x *exportTest) {
			x.health = func() store.Health { return store.Health{State: store.Unreadable} }
		}, "the store is failed", ""},
		{"stale while the list is written", func(x *exportTest) {
			before, n := x.exporter, 0
			x.exporter = func(c *config.Config, q control.ExportQuery) (exporter, error) {
				if n++; n%2 == 0 {
					x.state = control.Stale
				}
				return before(c, q)
			}
		}, "directory corp is stale", ""},
		{"empty", func(x *exportTest) {
			for id := range 2 {
				remove(x.t, x.store, "corp", byte(id+1))
			}
		}, "", "an empty list would reject every recipient"},
		{"directory of the file gone", func(x *exportTest) {
			next := *x.use
			next.Export.File += "/missing/file"
			x.use = &next
		}, "", "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTestStore(t)
			x := newExportTest(t, s, "ann@corp.example", "bob@corp.example")
			x.pass("good", "ann@corp.example bob@corp.example", "", "", 1)
			file := x.use.Export.File
			addAddresses(t, s, "corp", "ann@corp.example", "bob@corp.example", "new@corp.example")
			if c.name == "empty" {
				remove(t, s, "corp", 3)
			}
			c.spoil(x)
			x.ran = 0
			x.Pass(t.Context())
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), "bob@corp.example\tOK") ||
				strings.Contains(string(text), "new@") {
				t.Errorf("the file has\n%s, %v", text, err)
			}
			status := x.Status()
			if status.Held != c.held || !strings.Contains(status.Trouble, c.reason) ||
				c.reason == "" && status.Trouble != "" {
				t.Errorf("status %+v, want held %q, trouble %q", status, c.held, c.reason)
			}
			if x.ran != 0 {
				t.Error("the command ran")
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
				t.Errorf("files left: %q", left)
			}
		})
	}
}

// TestExportFileGuard: removals that the guard holds stay in the file, and leave it once they are
// released.
func TestExportFileGuard(t *testing.T) {
	s := newTestStore(t)
	x := newExportTest(t, s, "ann@corp.example", "bob@corp.example")
	for _, hold := range []string{"too many", ""} {
		pass, err := s.Begin("corp", store.Full, store.Origin{Controller: "dc1", Started: noon})
		if err != nil {
			t.Fatal(err)
		}
		ann := store.Object{Class: "user",
			Addresses: []store.Owned{{Address: parsed(t, "ann@corp.example"), Attribute: "mail"}}}
		ann.GUID[0] = 1
		if _, err := pass.Apply([]store.Object{ann}); err != nil {
			t.Fatal(err)
		}
		if err := pass.Sweep(); err != nil {
			t.Fatal(err)
		}
		if _, err := pass.Commit(store.Outcome{Ended: noon, Hold: hold}); err != nil {
			t.Fatal(err)
		}
		if hold != "" {
			x.pass("held", "ann@corp.example bob@corp.example", "", "", 1)
		} else {
			x.pass("released", "ann@corp.example", "", "", 1)
		}
	}
}

// TestExportFileRun: Run looks at once, after a reload, and ends with its context.
func TestExportFileRun(t *testing.T) {
	x := newExportTest(t, newTestStore(t), "ann@corp.example")
	looked := make(chan struct{}, 8)
	of := x.config
	x.config = func() *config.Config { looked <- struct{}{}; return of() }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	for range 2 { // for the pass, and for the interval
		<-looked
	}
	x.Reconfigured()
	x.Reconfigured()
	<-looked
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRunCommand: a command runs without a shell, with a short environment and a limit of time,
// and its error has the end of its output.
func TestRunCommand(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/secret")
	file := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		name  string
		words []string
		limit time.Duration
		want  string
	}{
		{"good", []string{"true"}, time.Minute, ""},
		{"no shell", []string{"echo", "$(touch " + file + "); touch " + file}, time.Minute, ""},
		{"environment", []string{"sh", "-c", "test -z \"$NOTIFY_SOCKET\" && test -n \"$PATH\""}, time.Minute, ""},
		{"fails", []string{"sh", "-c", "echo one; echo 'bad \x1bthing' >&2; exit 3"}, time.Minute,
			`export.command: sh: exit status 3: one\nbad \x1bthing`},
		{"long output", []string{"sh", "-c", "yes | head -c 1000000; exit 1"}, time.Minute, "exit status 1"},
		{"too slow, with a child", []string{"sh", "-c", "sleep 600 & wait"}, 50 * time.Millisecond,
			"raise export.timeout"},
		{"no program", []string{"no-such-program"}, time.Minute, "there is no program"},
		{"no such path", []string{"/no/such/program"}, time.Minute, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := runCommand(t.Context(), c.words, c.limit)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && len(err.Error()) > 5*maxOutput {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a shell read the command")
	}
}

// TestExportPostmap: Postfix reads the table that its own postmap makes of the file. It finds a letter
// composed and decomposed, and in either case.
func TestExportPostmap(t *testing.T) {
	postmap, err := findProgram("postmap")
	if err != nil {
		t.Skip("there is no Postfix on this host")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte("compatibility_level = 3.6\nmyhostname = mx.test\n"+
		"smtputf8_enable = yes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	x := newExportTest(t, newTestStore(t), "ann@corp.example", `"john doe"@corp.example`, "j\u00fcrgen@corp.example")
	x.use.Export.Command = []string{postmap, "-c", dir, "lmdb:" + x.use.Export.File}
	x.run = runCommand
	if out, _ := exec.Command("postconf", "-m").Output(); !strings.Contains(string(out), "lmdb\n") {
		t.Skip("Postfix here has no lmdb tables")
	}
	x.pass("first", `"john doe"@corp.example ann@corp.example `+"j\u00fcrgen@corp.example ju\u0308rgen@corp.example",
		"", "", 0)
	query := exec.Command(postmap, "-c", dir, "-q", "-", "lmdb:"+x.use.Export.File)
	found := []string{"ann@corp.example", `"john doe"@corp.example`, "j\u00fcrgen@corp.example",
		"J\u00dcRGEN@corp.example", "ju\u0308rgen@corp.example", "JU\u0308RGEN@corp.example"}
	query.Stdin = strings.NewReader("nobody@corp.example\n" + strings.Join(found, "\n") + "\n")
	out, _ := query.Output()
	if got, want := string(out), strings.Join(found, "\tOK\n")+"\tOK\n"; got != want {
		t.Errorf("postmap -q: %q, want %q", got, want)
	}
}

// TestExportFileFIFO: a FIFO in place of the file is an error, and does not block the daemon.
func TestExportFileFIFO(t *testing.T) {
	x := newExportTest(t, newTestStore(t), "ann@corp.example")
	file := x.use.Export.File
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { x.Pass(t.Context()); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("it waits for a writer of the FIFO")
		if w, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			w.Close()
		}
		<-done
	}
	if s := x.Status(); !strings.Contains(s.Trouble, "not a regular file") {
		t.Errorf("status %+v", s)
	}
}

// TestExportFileCommandOfReload: a command that a reload brings runs for the file that is there.
func TestExportFileCommandOfReload(t *testing.T) {
	x := newExportTest(t, newTestStore(t), "ann@corp.example")
	command := x.use.Export.Command
	x.use.Export.Command = nil
	x.pass("without a command", "ann@corp.example", "", "", 0)
	next := *x.use
	next.Export.Command = command
	x.use = &next
	x.pass("with one", "ann@corp.example", "", "", 1)
	again := next
	x.use = &again
	x.pass("the same one", "ann@corp.example", "", "", 0)
}

// TestExportFileOmits: the log says that the file lacks a recipient that no table can hold.
func TestExportFileOmits(t *testing.T) {
	x := newExportTest(t, newTestStore(t), "ann@corp.example", "#sales@corp.example")
	x.pass("first", "ann@corp.example", "", "", 1)
	if log := x.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "recipients=1") {
		t.Errorf("log:\n%s", log)
	}
}
