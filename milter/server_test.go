package milter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/internal/socket"
	"rcpt-milter/policy"
)

func TestNewServerRefuses(t *testing.T) {
	p := testPolicy(t, nil)
	for _, cfg := range []ServerConfig{
		{}, {Connections: 1, Idle: 1}, {Policy: p, Connections: 1}, {Policy: p, Idle: 1},
		{Policy: p, Connections: 1, Idle: 1, Packet: -1}, {Policy: p, Connections: 1, Idle: 1, Write: -1},
		{Policy: p, Connections: 1, Idle: 1, Drain: -1},
	} {
		if s, err := NewServer(cfg); err == nil || s != nil {
			t.Errorf("NewServer(%+v) = %v, %v, want an error", cfg, s, err)
		}
	}
	s, err := NewServer(ServerConfig{Policy: p, Connections: 1, Idle: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if c := s.cfg; c.Packet != 20*time.Second || c.Write != 10*time.Second || c.Drain != 30*time.Second {
		t.Errorf("defaults: %+v", c)
	}
	if s.Policy() != p {
		t.Error("the policy is another")
	}
}

// TestConnectionLimit checks that connections above the limit wait, and are served when a session ends.
func TestConnectionLimit(t *testing.T) {
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Connections = 2 })
	first, second := r.session(t), r.session(t)
	third := r.dial(t)
	fmt.Fprint(third, optneg)
	r.log.wait(t, "connection limit reached")
	if got := r.Sessions(); got != 2 {
		t.Errorf("%d sessions, want 2", got)
	}
	if got := rcpt(t, second, "user@enforce.test"); got != goOn {
		t.Errorf("at the limit: %q", got)
	}
	first.Close()
	if code, _, err := readReply(third); code != 'O' || err != nil {
		t.Errorf("after another ended: %c, %v", code, err)
	}
	second.Close()
}

// TestConnectionLimitOverListeners checks that an idle listener does not occupy a slot.
func TestConnectionLimitOverListeners(t *testing.T) {
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Connections = 1 })
	quiet, err := socket.Listen("inet:127.0.0.1:0", socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- r.Serve(quiet) }()
	for range 3 {
		s := r.session(t)
		if got := rcpt(t, s, "user@enforce.test"); got != goOn {
			t.Errorf("RCPT = %q", got)
		}
		s.Close()
	}
	r.Shutdown(context.Background())
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
}

// failing is a listener whose first calls of Accept fail.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return f.Listener.Accept()
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func TestAcceptRetries(t *testing.T) {
	r := serve(t, "unix", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() {
		served <- r.Serve(&failing{l, []error{syscall.EMFILE, errors.New("odd"),
			&net.OpError{Op: "accept", Err: syscall.ECONNABORTED}}})
	}()
	s := (&running{Server: r.Server, network: "tcp", address: l.Addr().String()}).session(t)
	if got := rcpt(t, s, "user@enforce.test"); got != goOn {
		t.Errorf("RCPT = %q", got)
	}
	s.Close()
	for _, want := range []string{"accepting a connection failed, trying again", "too many open files", "odd",
		"connection abort"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, r.log)
		}
	}
	l.Close() // permanently
	if err := <-served; err == nil || errors.Is(err, ErrServerClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}

// TestShutdownWhileAcceptFails checks that Shutdown interrupts the pause after a failure.
func TestShutdownWhileAcceptFails(t *testing.T) {
	check := goroutines(t)
	log := newLogBuffer()
	s, err := NewServer(ServerConfig{Policy: testPolicy(t, nil), Connections: 2000, Idle: time.Hour,
		Logger: log.logger(0)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	always := make([]error, 1000)
	for i := range always {
		always[i] = syscall.EMFILE
	}
	served := make(chan error)
	go func() { served <- s.Serve(&failing{l, always}) }()
	log.wait(t, "trying again")
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	if err := s.Serve(l); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	check()
}

// TestDrain checks that open sessions finish while new connections are not accepted.
func TestDrain(t *testing.T) {
	check := goroutines(t)
	r := serve(t, "unix", nil)
	open := r.session(t)
	done := make(chan error)
	go func() { done <- r.Shutdown(context.Background()) }()
	if err := <-r.served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	r.served <- ErrServerClosed // for the cleanup of the test
	if c, err := net.Dial(r.network, r.address); err == nil {
		c.Close()
		t.Error("a new connection was accepted")
	}
	if got, want := rcpt(t, open, "nobody@enforce.test"), expect(noUser, "nobody@enforce.test"); got != want {
		t.Errorf("while draining: %q, want %q", got, want)
	}
	open.Close()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := r.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown again: %v", err)
	}
	check()
}

// TestDrainDeadline checks that sessions left at the deadline are closed, and that Shutdown returns after they
// have ended.
func TestDrainDeadline(t *testing.T) {
	check := goroutines(t)
	r := serve(t, "unix", nil)
	idle := r.session(t)
	for range 3 {
		rcpt(t, r.session(t), "user@enforce.test")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Shutdown(ctx); err == nil || !errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), "4 sessions cut") {
		t.Errorf("Shutdown: %v", err)
	}
	if got := r.Sessions(); got != 0 {
		t.Errorf("%d sessions left", got)
	}
	if _, err := idle.Rcpt("user@enforce.test", nil); err == nil {
		t.Error("a cut session still answers")
	}
	check()
}

// TestDrainWaitsForIndex checks that a session with a running lookup ends only after the lookup, because the
// owner of the index may close the index after Shutdown.
func TestDrainWaitsForIndex(t *testing.T) {
	index, asked, release := testIndex(), make(chan bool), make(chan bool)
	index.asked = func(address.Address) { asked <- true; <-release }
	r := serve(t, "unix", func(cfg *ServerConfig) {
		cfg.Policy = testPolicy(t, func(cfg *policy.Config) { cfg.Index = index })
	})
	c := r.dial(t)
	fmt.Fprint(c, packet('R', "<user@enforce.test>\x00"))
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan error, 1)
	go func() { done <- r.Shutdown(ctx) }()
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) { // the server closed it
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Errorf("Shutdown returned %v while the index was in use", err)
	default:
	}
	close(release)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestRun(t *testing.T) {
	check := goroutines(t)
	s, err := NewServer(ServerConfig{Policy: testPolicy(t, nil), Connections: 2000, Idle: time.Hour,
		Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	unix, err := socket.Listen("unix:"+socketPath(t), socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := socket.Listen("inet:127.0.0.1:0", socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx, unix, tcp) }()
	for _, l := range []net.Listener{unix, tcp} {
		c := (&running{Server: s, network: l.Addr().Network(), address: l.Addr().String()}).session(t)
		if got := rcpt(t, c, "user@enforce.test"); got != goOn {
			t.Errorf("over %s: %q", l.Addr(), got)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) { // two sessions were left open
		t.Errorf("Run: %v", err)
	}
	check()
}

func TestRunEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(cancel func(), l net.Listener)
		want error
	}{
		{"context", func(cancel func(), _ net.Listener) { cancel() }, nil},
		{"listener", func(_ func(), l net.Listener) { l.Close() }, net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := NewServer(ServerConfig{Policy: testPolicy(t, nil), Connections: 2000, Idle: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			broken, err := socket.Listen("inet:127.0.0.1:0", socket.Options{})
			if err != nil {
				t.Fatal(err)
			}
			other, err := socket.Listen("inet:127.0.0.1:0", socket.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			c.end(cancel, broken)
			if err := s.Run(ctx, broken, other); !errors.Is(err, c.want) {
				t.Errorf("Run: %v, want %v", err, c.want)
			}
			if _, err := net.Dial("tcp", other.Addr().String()); err == nil {
				t.Errorf("the other listener is still open")
			}
			cancel()
		})
	}
}

// TestShutdownRaces checks that connections that arrive while the server stops are closed.
func TestShutdownRaces(t *testing.T) {
	check := goroutines(t)
	for range 20 {
		r := serve(t, "unix", nil)
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				c, err := net.Dial(r.network, r.address)
				if err != nil {
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				fmt.Fprint(c, optneg+packet('Q', ""))
				if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				}
			})
		}
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
	check()
}
