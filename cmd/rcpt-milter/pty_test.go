package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"rcpt-milter/control"
)

// emulator is a pseudo terminal with a command of ours on it, and what its user sees.
type emulator struct {
	t    testing.TB
	pty  *os.File
	cmd  *exec.Cmd
	was  *unix.Termios // settings before the command
	done chan error

	mu     sync.Mutex
	screen *vt.Emulator
	raw    bytes.Buffer
	hidden bool // the cursor
	news   chan struct{}
}

// prompt is what stands on the terminal before the command.
const prompt = "user@relay:~$"

// onTerminal starts a command on a terminal of a size. Settings of the environment come
// last and count.
func (r *rig) onTerminal(columns, rows int, environment []string, args ...string) *emulator {
	r.t.Helper()
	t := &emulator{t: r.t, done: make(chan error, 1), news: make(chan struct{}, 1), screen: vt.NewEmulator(columns, rows)}
	t.screen.SetCallbacks(vt.Callbacks{CursorVisibility: func(visible bool) { t.hidden = !visible }})
	t.screen.Write([]byte(prompt + "\r\n"))
	master, slave, err := pty.Open()
	if err != nil {
		r.t.Fatal(err)
	}
	defer slave.Close()
	t.pty = master
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		r.t.Fatal(err)
	}
	t.was = t.settings()
	t.cmd = exec.Command(os.Args[0], append(args, "--config", r.config)...)
	t.cmd.Env = append(append(os.Environ(), asDaemon+"=1", "TERM=xterm", "NO_COLOR="), environment...)
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = slave, slave, slave
	t.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := t.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); t.read() }()
	go func() { t.done <- t.cmd.Wait() }()
	r.t.Cleanup(func() {
		t.cmd.Process.Kill()
		t.done <- <-t.done
		slave.Close()
		master.Close()
		<-read
	})
	return t
}

// read draws what the command writes until nobody can write any more.
func (t *emulator) read() {
	b := make([]byte, 4096)
	for {
		n, err := t.pty.Read(b)
		t.mu.Lock()
		t.screen.Write(b[:n])
		t.raw.Write(b[:n])
		t.mu.Unlock()
		if err != nil {
			close(t.news)
			return
		}
		select {
		case t.news <- struct{}{}:
		default:
		}
	}
}

func (t *emulator) settings() *unix.Termios {
	t.t.Helper()
	s, err := unix.IoctlGetTermios(int(t.pty.Fd()), unix.TCGETS)
	if err != nil {
		t.t.Fatal(err)
	}
	return s
}

// text is what the screen shows.
func (t *emulator) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimRight(t.screen.String(), " \n")
}

// apart reports whether the command draws on a screen of its own, without a cursor.
func (t *emulator) apart() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.IsAltScreen() && t.hidden
}

// until waits until the screen is as it should be.
func (t *emulator) until(what string, ok func(screen string) bool) string {
	t.t.Helper()
	limit := time.After(time.Minute)
	for {
		if text := t.text(); ok(text) {
			return text
		}
		select {
		case _, open := <-t.news:
			if !open && !ok(t.text()) {
				t.t.Fatalf("the command ended without %s:\n%s", what, t.text())
			}
		case <-limit:
			t.t.Fatalf("no %s on the screen:\n%s", what, t.text())
		}
	}
}

// shows waits for texts on the screen, all at one time.
func (t *emulator) shows(texts ...string) string {
	t.t.Helper()
	return t.until(strings.Join(texts, ", "), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// resize is what a window does whose corner is pulled.
func (t *emulator) resize(columns, rows int) {
	t.t.Helper()
	t.mu.Lock()
	t.screen.Resize(columns, rows)
	t.mu.Unlock()
	if err := pty.Setsize(t.pty, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		t.t.Fatal(err)
	}
}

func (t *emulator) press(keys string) {
	t.t.Helper()
	if _, err := t.pty.WriteString(keys); err != nil {
		t.t.Fatal(err)
	}
}

// end waits for the end of the command, gives its exit status, and sees to it that the
// emulator is as it was.
func (t *emulator) end() int {
	t.t.Helper()
	err := <-t.done
	t.done <- err
	for range t.news { // until all that was written has been read
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.screen.IsAltScreen() || t.hidden {
		t.t.Errorf("the terminal is left on another screen: %t, without a cursor: %t", t.screen.IsAltScreen(), t.hidden)
	}
	if now := t.settings(); *now != *t.was {
		t.t.Errorf("the terminal is left with settings %+v, it had %+v", now, t.was)
	}
	if !strings.HasPrefix(t.screen.String(), prompt) {
		t.t.Errorf("what stood on the terminal is lost:\n%s", t.screen)
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return failed.ExitCode()
	}
	return exitOK
}

// keep writes the screen to a file where somebody wants to look at it.
func (t *emulator) keep(name string) {
	if dir := os.Getenv(envScreenshots); dir != "" {
		os.WriteFile(filepath.Join(dir, name+".txt"), []byte(t.text()+"\n"), 0o644)
	}
}

// answering is a daemon that says what the test wants.
type answering struct {
	control.Backend // nil: nothing else is asked
	status          func(context.Context) (control.Status, error)
	sync            func(context.Context, func(control.SyncEvent)) error
	report          control.Report
}

func (a answering) Report(context.Context, control.ReportQuery) (control.Report, error) {
	return a.report, nil
}

func (a answering) Status(ctx context.Context) (control.Status, error) { return a.status(ctx) }

func (a answering) Sync(ctx context.Context, _ control.SyncQuery, progress func(control.SyncEvent)) error {
	return a.sync(ctx, progress)
}

// answers puts a daemon that the test made on the control socket.
func (r *rig) answers(a answering) {
	r.t.Helper()
	socket := filepath.Join(r.dir, "run", "control.sock")
	os.MkdirAll(filepath.Dir(socket), 0o755)
	l, err := net.Listen("unix", socket)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- control.NewServer(a, "1.2.3", nil).Serve(ctx, l) }()
	r.t.Cleanup(func() { cancel(); <-ended })
}

func TestWatchOnTerminal(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	c := r.onTerminal(80, 24, nil, "status", "--watch", "--every", "500ms")
	c.shows("State: fresh", "2 addresses of 1 object", "q ends", "arrows scroll")
	if !c.apart() {
		t.Error("it does not draw on a screen of its own without a cursor")
	}
	c.keep("watch-80")
	r.addUser("ann", "smtp:ann@corp.example")
	c.shows("3 addresses of 2 objects")
	c.press(" ")
	c.until("the second half", func(s string) bool {
		return !strings.Contains(s, "State: fresh") && strings.Contains(s, "corp.example")
	})
	c.press(strings.Repeat("\x1b[A", 24))
	c.shows("State: fresh")
	c.resize(40, 12)
	c.until("12 lines of 40 columns", func(s string) bool {
		lines := strings.Split(s, "\n")
		return len(lines) == 12 && strings.Contains(lines[11], "arrows scroll") && strings.Contains(s, "State: fresh")
	})
	c.keep("watch-40")
	c.resize(100, 60)
	c.shows("No recipient judged", "State: fresh")
	c.press("q")
	if status := c.end(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
	if !strings.Contains(c.raw.String(), "\x1b[32mfresh") {
		t.Error("fresh is not green")
	}
}

// TestWatchLeaves: in whatever way it is left, also while the daemon gives no answer, the
// emulator is as it was.
func TestWatchLeaves(t *testing.T) {
	r := newRig(t)
	r.answers(answering{status: func(ctx context.Context) (control.Status, error) {
		<-ctx.Done()
		return control.Status{}, ctx.Err()
	}})
	for what, leave := range map[string]func(*emulator){
		"q":       func(c *emulator) { c.press("q") },
		"Ctrl-C":  func(c *emulator) { c.press("\x03") },
		"SIGINT":  func(c *emulator) { c.cmd.Process.Signal(unix.SIGINT) },
		"SIGTERM": func(c *emulator) { c.cmd.Process.Signal(unix.SIGTERM) },
	} {
		c := r.onTerminal(80, 24, []string{"NO_COLOR=1"}, "status", "--watch", "--every", "500ms")
		c.shows("no answer for")
		leave(c)
		if status := c.end(); status != exitOK {
			t.Errorf("%s: exit status %d", what, status)
		}
		if text := c.text(); text != prompt {
			t.Errorf("%s: left behind\n%s", what, text)
		}
		if bytes.Contains(c.raw.Bytes(), []byte("\x1b[3")) {
			t.Errorf("%s: colours in spite of NO_COLOR", what)
		}
	}
}

// TestColoursOnTerminal: colours only where somebody wants to see them.
func TestColoursOnTerminal(t *testing.T) {
	r := newRig(t)
	r.answers(answering{status: func(context.Context) (control.Status, error) { return troubledStatus(), nil }})
	for _, c := range []struct {
		environment []string
		want        bool
	}{{nil, true}, {[]string{"NO_COLOR=1"}, false}, {[]string{"TERM=dumb"}, false}} {
		term := r.onTerminal(60, 200, c.environment, "status")
		if status := term.end(); status != exitTemporary {
			t.Errorf("%v: exit status %d", c.environment, status)
		}
		if got := bytes.Contains(term.raw.Bytes(), []byte("\x1b[")); got != c.want {
			t.Errorf("%v: escape sequences %t, want %t", c.environment, got, c.want)
		}
		term.keep("status-60")
	}
	c := r.onTerminal(80, 24, []string{"TERM=dumb"}, "status", "--watch")
	if status := c.end(); status != exitUsage || !strings.Contains(c.text(),
		"--watch needs a terminal that can move its cursor") {
		t.Errorf("on a dumb terminal: exit status %d\n%s", status, c.text())
	}
	if out := r.want(exitTemporary, "status"); strings.Contains(out, "\x1b") {
		t.Errorf("colours where nobody looks: %q", out)
	}
}

// TestWatchTrouble keeps pictures of a status that has everything, for whoever looks.
func TestWatchTrouble(t *testing.T) {
	r := newRig(t)
	r.answers(answering{status: func(context.Context) (control.Status, error) { return troubledStatus(), nil }})
	for _, columns := range []int{80, 40} {
		c := r.onTerminal(columns, 160, nil, "status", "--watch")
		c.shows("State: not ready", "Directory lab", "Would refuse")
		c.keep("watch-trouble-" + map[int]string{80: "80", 40: "40"}[columns])
		c.press("q")
		c.end()
	}
}

// TestSyncOnTerminal: a bar while passes are under way, whatever the terminal is wide, and
// nothing of it afterwards.
func TestSyncOnTerminal(t *testing.T) {
	r := newRig(t)
	events := make(chan *control.SyncEvent) // nil: the end
	over := make(chan struct{}, 3)          // the daemon has done with a command
	r.answers(answering{sync: func(ctx context.Context, progress func(control.SyncEvent)) error {
		defer func() { over <- struct{}{} }()
		for {
			select {
			case e := <-events:
				if e == nil {
					return nil
				}
				progress(*e)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}})
	corp := control.SyncEvent{Directory: "corp", Kind: "full", Seen: 12000, Expected: 50000}
	lab := control.SyncEvent{Directory: "lab", Kind: "incremental", Seen: 7}
	ended := corp
	ended.Pass = &control.PassStatus{Number: 4, Seconds: 12, Seen: 50000, Added: 3, Result: control.ResultOK}
	const last = "corp: full pass 4, 12 s, 50,000 seen, 3 added, 0 changed, 0 removed, ok"

	c := r.onTerminal(120, 10, nil, "sync", "--wait")
	events <- &corp
	c.shows("corp: full pass, ████░░░░░░░░░░░░░░░░ 12,000 of about 50,000 objects")
	events <- &lab
	c.shows("12,000 of about 50,000 objects; lab: incremental pass, 7 objects")
	c.keep("sync-120")
	events <- &ended
	c.shows(last, "\nlab: incremental pass, 7 objects")
	events <- nil
	if status := c.end(); status != exitOK || c.text() != prompt+"\n"+last {
		t.Errorf("exit status %d, and what is left is\n%s", status, c.text())
	}

	narrow := r.onTerminal(30, 10, []string{"NO_COLOR=1"}, "sync", "--wait")
	events <- &corp
	narrow.shows("corp: full pass, ████░░░░░░")
	further := corp
	further.Seen = 25000
	events <- &further
	narrow.shows("corp: full pass, ██████████")
	narrow.keep("sync-30")
	narrow.press("\x03")
	if status := narrow.end(); status != exitFailure ||
		narrow.text() != prompt+"\nrcpt-milter: no longer waiting\n; the passes go on" {
		t.Errorf("interrupted: exit status %d, and what is left is\n%s", status, narrow.text())
	}

	<-over
	<-over

	// Where nobody looks there are lines of passes that ended, and nothing else.
	go func() {
		events <- &corp
		events <- &ended
		events <- nil
	}()
	if out := r.want(exitOK, "sync", "--wait"); out != last+"\n" {
		t.Errorf("without a terminal it says %q", out)
	}
}
