package milter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"rcpt-milter/internal/socket"
)

// begin connects and starts a negotiation, even if no server accepts connections yet.
func begin(t *testing.T, path string) net.Conn {
	t.Helper()
	c := (&running{network: "unix", address: path}).dial(t)
	if _, err := fmt.Fprint(c, optneg); err != nil {
		t.Fatal(err)
	}
	return c
}

// wantAnswer waits for the end of a negotiation.
func wantAnswer(t *testing.T, c net.Conn, when string) {
	t.Helper()
	if code, _, err := readReply(c); code != 'O' || err != nil {
		t.Errorf("%s: answered %c, %v", when, code, err)
	}
	c.Close()
}

// serving returns a server with the listeners of a test.
func serving(t *testing.T, change func(*ServerConfig), listeners ...net.Listener) (s *Server, served chan error) {
	t.Helper()
	cfg := ServerConfig{Policy: testPolicy(t, nil), Connections: 2000, Idle: time.Hour}
	if change != nil {
		change(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- s.Serve(l) }()
	}
	return s, served
}

// TestHandOver checks that a waiting socket replaces one that stops, without a moment in which clients cannot
// connect. The stopping server must answer the clients in its queue.
func TestHandOver(t *testing.T) {
	path := socketPath(t)
	first, err := socket.Listen("unix:"+path, socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	next, err := socket.Prepare("unix:"+path, socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Take(); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("Take of a path that is served: %v, want %v", err, socket.ErrInUse)
	}
	if _, err := socket.Prepare("unix:"+path, socket.Options{}); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("a third one: %v, want %v", err, socket.ErrInUse)
	}
	queued := []net.Conn{begin(t, path), begin(t, path), begin(t, path)} // not accepted yet
	old, oldServed := serving(t, func(cfg *ServerConfig) { cfg.Connections = 1 }, first)
	wantAnswer(t, queued[0], "first in the queue")
	successor, served := serving(t, nil, next)
	defer func() { successor.Shutdown(canceled()); <-served }()

	var clients sync.WaitGroup
	stop := make(chan bool)
	few := make(chan bool, 16) // a full queue rejects clients, which does not matter here
	clients.Go(func() {        // one connection after the other, until the end
		for {
			select {
			case <-stop:
				return
			case few <- true:
			}
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Errorf("while the place changes hands: %v", err)
				return
			}
			c.SetDeadline(deadline())
			fmt.Fprint(c, optneg)
			clients.Go(func() {
				wantAnswer(t, c, "dialled while the place changed hands")
				<-few
			})
		}
	})
	done := make(chan error)
	go func() { done <- old.Shutdown(context.Background()) }()
	for _, c := range queued[1:] {
		wantAnswer(t, c, "in the queue when it stops")
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	close(stop)
	clients.Wait()
	if err := <-oldServed; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	if err := next.Take(); err != nil {
		t.Errorf("Take of what is ours already: %v", err)
	}
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first one removed the socket of the next: %v", err)
	}
	if _, err := os.Lstat(path + ".next"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the place to wait at: %v", err)
	}
}

// TestPrepareAtOnce checks that MTAs can connect at once if no other server uses the path.
func TestPrepareAtOnce(t *testing.T) {
	for _, stale := range []bool{false, true} {
		t.Run(fmt.Sprintf("stale %t", stale), func(t *testing.T) {
			path := socketPath(t)
			if stale {
				for _, name := range []string{path, path + ".next"} {
					l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
					if err != nil {
						t.Fatal(err)
					}
					l.SetUnlinkOnClose(false)
					l.Close()
				}
			}
			l, err := socket.Prepare("unix:"+path, socket.Options{})
			if err != nil {
				t.Fatal(err)
			}
			c := begin(t, path)
			if err := l.Take(); err != nil {
				t.Error(err)
			}
			s, served := serving(t, nil, l)
			wantAnswer(t, c, "connected before it was served")
			s.Shutdown(context.Background())
			<-served
			if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestQueueIsAnswered checks that connections from before the stop are served, also on TCP, and that they wait
// if no slot is free.
func TestQueueIsAnswered(t *testing.T) {
	l, err := socket.Listen("inet:127.0.0.1:0", socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, served := serving(t, func(cfg *ServerConfig) { cfg.Connections = 1 }, l)
	at := &running{Server: s, network: "tcp", address: l.Addr().String()}
	open := at.session(t)
	var queued []net.Conn
	for range 5 {
		c := at.dial(t)
		fmt.Fprint(c, optneg)
		queued = append(queued, c)
	}
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	<-s.stopping
	open.Close()
	for _, c := range queued {
		wantAnswer(t, c, "in the queue")
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	if n := s.Sessions(); n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

// TestAdopt checks that an adopted socket outlives the server, together with its queue.
func TestAdopt(t *testing.T) {
	path := socketPath(t)
	systemd, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	adopt := func() *socket.Listener {
		t.Helper()
		file, err := systemd.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		passed, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		l, err := socket.Adopt(passed, socket.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for range 3 {
		waiting := begin(t, path) // from before the daemon started
		s, served := serving(t, nil, adopt())
		wantAnswer(t, waiting, "waited for the daemon")
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}
