package ui

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rcpt-milter/control"
)

func TestWatch(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	e := r.onTerminal(80, 24, nil, "status", "--watch", "--every", "500ms")
	e.shows("State: fresh", "2 addresses of 1 object", "q ends", "arrows scroll")
	if !e.fullScreen() {
		t.Error("the command does not draw on the alternate screen without a cursor")
	}
	e.save("watch-80")
	r.addUser("ann", "smtp:ann@corp.example")
	e.shows("3 addresses of 2 objects")
	e.press(" ")
	e.await("the second half", func(s string) bool {
		return !strings.Contains(s, "State: fresh") && strings.Contains(s, "corp.example")
	})
	e.press(strings.Repeat("\x1b[A", 24))
	e.shows("State: fresh")
	e.resize(40, 12)
	e.await("12 lines of 40 columns", func(s string) bool {
		lines := strings.Split(s, "\n")
		return len(lines) == 12 && strings.Contains(lines[11], "arrows scroll") && strings.Contains(s, "State: fresh")
	})
	e.save("watch-40")
	e.resize(100, 60)
	e.shows("No recipient judged", "State: fresh")
	e.press("q")
	if status := e.end(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
	if !strings.Contains(e.raw.String(), "\x1b[32mfresh") {
		t.Error("fresh is not green")
	}
}

// TestWatchRestoresTerminal: each way to end the command restores the terminal, also while the
// daemon does not answer.
func TestWatchRestoresTerminal(t *testing.T) {
	r := newRig(t)
	r.answerWith(fakeDaemon{status: func(ctx context.Context) (control.Status, error) {
		<-ctx.Done()
		return control.Status{}, ctx.Err()
	}})
	for name, leave := range map[string]func(*emulator){
		"q":       func(e *emulator) { e.press("q") },
		"Ctrl-C":  func(e *emulator) { e.press("\x03") },
		"SIGINT":  func(e *emulator) { e.cmd.Process.Signal(unix.SIGINT) },
		"SIGTERM": func(e *emulator) { e.cmd.Process.Signal(unix.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			e := r.onTerminal(80, 24, []string{"NO_COLOR=1"}, "status", "--watch", "--every", "500ms")
			e.shows("no answer for")
			leave(e)
			if status := e.end(); status != exitOK {
				t.Errorf("exit status %d", status)
			}
			if text := e.text(); text != prompt {
				t.Errorf("the screen after the command is\n%s", text)
			}
			if bytes.Contains(e.raw.Bytes(), []byte("\x1b[3")) {
				t.Error("colors in spite of NO_COLOR")
			}
		})
	}
}

// TestColors: status prints colors only to a terminal that has them, and only if they are wanted.
func TestColors(t *testing.T) {
	r := newRig(t)
	status := troubledStatus(t)
	r.answerWith(fakeDaemon{status: func(context.Context) (control.Status, error) { return status, nil }})
	for _, test := range []struct {
		name        string
		environment []string
		want        bool
	}{
		{"terminal", nil, true},
		{"NO_COLOR", []string{"NO_COLOR=1"}, false},
		{"dumb terminal", []string{"TERM=dumb"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := r.onTerminal(60, 200, test.environment, "status")
			if status := e.end(); status != exitTemporary {
				t.Errorf("exit status %d", status)
			}
			if got := bytes.Contains(e.raw.Bytes(), []byte("\x1b[")); got != test.want {
				t.Errorf("escape sequences %t, want %t", got, test.want)
			}
			e.save("status-60")
		})
	}
	t.Run("pipe", func(t *testing.T) {
		if out := r.want(exitTemporary, "status"); strings.Contains(out, "\x1b") {
			t.Errorf("escape sequences in a pipe: %q", out)
		}
	})
}

func TestWatchNeedsCursor(t *testing.T) {
	e := newRig(t).onTerminal(80, 24, []string{"TERM=dumb"}, "status", "--watch")
	if status := e.end(); status != exitUsage || !strings.Contains(e.text(), "--watch needs a terminal") {
		t.Errorf("on a dumb terminal: exit status %d\n%s", status, e.text())
	}
}

// TestWatchTroubled shows a status with every kind of problem, and saves the screens.
func TestWatchTroubled(t *testing.T) {
	r := newRig(t)
	status := troubledStatus(t)
	r.answerWith(fakeDaemon{status: func(context.Context) (control.Status, error) { return status, nil }})
	for _, columns := range []int{80, 40} {
		e := r.onTerminal(columns, 240, nil, "status", "--watch")
		e.shows("State: not ready", "Directory lab", "Would refuse")
		e.save(fmt.Sprintf("watch-troubled-%d", columns))
		e.press("q")
		e.end()
	}
}

// syncedByTest is a daemon that sends the events of the test; nil ends the answer.
type syncedByTest struct {
	events chan *control.SyncEvent
	ended  chan struct{} // one value for each answered command
}

func (d syncedByTest) sync(ctx context.Context, progress func(control.SyncEvent)) error {
	defer func() { d.ended <- struct{}{} }()
	for {
		select {
		case event := <-d.events:
			if event == nil {
				return nil
			}
			progress(*event)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TestSync: the command draws a bar during passes on a terminal of any width, and removes it at
// the end.
func TestSync(t *testing.T) {
	r := newRig(t)
	daemon := syncedByTest{make(chan *control.SyncEvent), make(chan struct{}, 3)}
	r.answerWith(fakeDaemon{sync: daemon.sync})
	corp := control.SyncEvent{Directory: "corp", Kind: "full", Seen: 12000, Expected: 50000}
	lab := control.SyncEvent{Directory: "lab", Kind: "incremental", Seen: 7}
	ended := corp
	ended.Pass = &control.PassStatus{Number: 4, Seconds: 12, Seen: 50000, Added: 3, Result: control.ResultOK}
	const last = "corp: full pass 4, 12 s, 50,000 seen, 3 added, 0 changed, 0 removed, ok"

	t.Run("wide", func(t *testing.T) {
		e := r.onTerminal(120, 10, nil, "sync", "--wait")
		daemon.events <- &corp
		e.shows("corp: full pass, ████░░░░░░░░░░░░░░░░ 12,000 of about 50,000 objects")
		daemon.events <- &lab
		e.shows("12,000 of about 50,000 objects; lab: incremental pass, 7 objects")
		e.save("sync-120")
		daemon.events <- &ended
		e.shows(last, "\nlab: incremental pass, 7 objects")
		daemon.events <- nil
		if status := e.end(); status != exitOK || e.text() != prompt+"\n"+last {
			t.Errorf("exit status %d, the screen after the command is\n%s", status, e.text())
		}
		<-daemon.ended
	})

	t.Run("narrow and interrupted", func(t *testing.T) {
		e := r.onTerminal(30, 10, []string{"NO_COLOR=1"}, "sync", "--wait")
		daemon.events <- &corp
		e.shows("corp: full pass, ████░░░░░░")
		further := corp
		further.Seen = 25000
		daemon.events <- &further
		e.shows("corp: full pass, ██████████")
		e.save("sync-30")
		e.press("\x03")
		const want = prompt + "\nrcpt-milter: no longer waiting\n; the passes go on"
		if status := e.end(); status != exitFailure || e.text() != want {
			t.Errorf("exit status %d, the screen after the command is\n%s", status, e.text())
		}
		<-daemon.ended
	})

	t.Run("pipe", func(t *testing.T) { // a line for each pass that ended, and nothing else
		go func() {
			daemon.events <- &corp
			daemon.events <- &ended
			daemon.events <- nil
		}()
		if out := r.want(exitOK, "sync", "--wait"); out != last+"\n" {
			t.Errorf("the output is %q", out)
		}
	})
}
