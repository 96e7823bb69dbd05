package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	loadClients = flag.Int("load.clients", 20, "clients of the tests of restart and reload under load")
	loadRounds  = flag.Int("load.rounds", 2, "restarts and reloads under load")
)

// load is clients that connect, ask about two recipients and go, all the time: what an
// MX under way does.
type load struct {
	r       *rig
	stop    chan struct{}
	clients sync.WaitGroup

	sessions, wrong atomic.Int64
	mu              sync.Mutex
	troubles        map[string]int
}

// underLoad starts clients.
func (r *rig) underLoad() *load {
	l := &load{r: r, stop: make(chan struct{}), troubles: map[string]int{}}
	for range *loadClients {
		l.clients.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := l.session(); err != nil {
					l.note(err)
				}
				l.sessions.Add(1)
			}
		})
	}
	return l
}

// session is one session that has to go well.
func (l *load) session() error {
	p, err := dialMilter(l.r.milterSocket())
	if err != nil {
		return err
	}
	defer p.Close()
	for recipient, want := range map[string]string{"jane@corp.example": "continue",
		"nobody@corp.example": "550 5.1.1"} {
		if got, err := p.ask(recipient); err != nil {
			return err
		} else if !strings.HasPrefix(got, want) {
			return fmt.Errorf("RCPT %s is answered %q", recipient, got)
		}
	}
	_, err = p.Write([]byte(packet('Q', "")))
	return err
}

func (l *load) note(err error) {
	l.wrong.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.troubles[err.Error()]++
}

// more waits until clients have come and gone since.
func (l *load) more() {
	for begun := l.sessions.Load(); l.sessions.Load() < begun+2*int64(*loadClients) && l.r.t.Context().Err() == nil; {
	}
}

// end stops the clients. None may have got anything but a proper answer.
func (l *load) end(what string) {
	l.r.t.Helper()
	close(l.stop)
	l.clients.Wait()
	l.r.t.Logf("%s: %d sessions, %d of them with trouble", what, l.sessions.Load(), l.wrong.Load())
	for text, n := range l.troubles {
		l.r.t.Errorf("%s: %d times: %s", what, n, text)
	}
}

// TestRestartUnderLoad: the next daemon starts, and the previous one is stopped. The socket
// changes hands, and no client is rejected.
func TestRestartUnderLoad(t *testing.T) {
	r := newRig(t)
	old := r.spawn().ready()
	r.want(exitOK, "sync", "--wait")
	l := r.underLoad()
	for range *loadRounds {
		l.more()
		next := r.spawn()
		for !exists(r.milterSocket() + ".next") { // it waits for the store
			if t.Context().Err() != nil {
				t.Fatal(next.log)
			}
		}
		old.stop()
		old = next.ready()
		l.more()
	}
	l.end("restart by a second daemon")
	old.stop()
	if left, _ := filepath.Glob(r.milterSocket() + "*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestActivatedRestartUnderLoad: systemd holds the socket, and starts the next daemon
// after the end of the one before it.
func TestActivatedRestartUnderLoad(t *testing.T) {
	r := newRig(t)
	socket := r.unixSocket()
	r.edit("listen: unix:"+r.milterSocket(), "listen: fd:milter")
	early := make(chan error)
	go func() { // before there is a daemon
		p, err := dialMilter(r.milterSocket())
		if err == nil {
			p.Close()
		}
		early <- err
	}()
	d := r.spawn(socket).ready()
	if err := <-early; err != nil {
		t.Errorf("a client that waited for the first start: %v", err)
	}
	r.want(exitOK, "sync", "--wait")
	l := r.underLoad()
	for range *loadRounds {
		l.more()
		d.stop()
		d = r.spawn(socket).ready()
		l.more()
	}
	l.end("restart with socket activation")
	d.stop()
	if !exists(r.milterSocket()) {
		t.Error("the socket is gone")
	}
}

// TestReloadUnderLoad: a reload changes a directory and the policy each time.
func TestReloadUnderLoad(t *testing.T) {
	r := newRig(t)
	d := r.spawn().ready()
	r.want(exitOK, "sync", "--wait")
	l := r.underLoad()
	interval, grace := "poll: 100ms", "removal_grace: 0s"
	for i := range 5 * *loadRounds {
		next, longer := fmt.Sprintf("poll: %dms", 101+i), fmt.Sprintf("removal_grace: %ds", 1+i)
		r.edit(interval, next)
		r.edit(grace, longer)
		interval, grace = next, longer
		if out := r.want(exitOK, "reload"); !strings.Contains(out, "directories[corp]") {
			t.Errorf("reload says %q", out)
		}
		l.more()
	}
	l.end("reload")
	d.stop()
}

// TestPassedSocketMissing: what is wrong between the file and the socket unit is said.
func TestPassedSocketMissing(t *testing.T) {
	r := newRig(t)
	socket := r.unixSocket()
	r.edit("listen: unix:"+r.milterSocket(), "listen: fd:other")
	for want, sockets := range map[string][]*os.File{
		`listen "fd:other": systemd passed no socket; enable`:          nil,
		`listen "fd:other": systemd passed no socket of that name, bu`: {socket},
	} {
		p := r.spawn(sockets...)
		if err := p.wait(); err == nil || !strings.Contains(p.log.String(), want) {
			t.Errorf("ended %v, want %q\n%s", err, want, p.log)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
