package socketmap

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// TestNewServer checks that an unusable configuration is an error.
func TestNewServer(t *testing.T) {
	for name, cfg := range map[string]Config{"no policy": {}, "no limit": {Policy: testPolicy(t, nil)},
		"negative": {Policy: testPolicy(t, nil), Connections: 1, Idle: -1}} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTruncatedAndHostile checks that invalid input ends its connection, but no other one.
func TestTruncatedAndHostile(t *testing.T) {
	s := serve(t, "unix", nil)
	for _, bad := range []string{"x", ":", "-1:a,", "+1:a,", " 1:a,", "01:a,", "00:,", "1a:", "3:abcd", "99999:",
		"999999999999999999999999:", "10001:", "GET / HTTP/1.0\r\n\r\n", "0:;", "\x00\x00\x00\x0dO"} {
		t.Run(bad, func(t *testing.T) {
			c := s.dial(t)
			c.send(bad)
			if !c.ends() {
				t.Error("the connection goes on")
			}
		})
	}
	for _, cut := range []string{"", "1", "12:", "28:recipients ann", "28:recipients ann@enforce.test"} {
		c := s.dial(t)
		c.send(cut)
		c.Close()
	}
	if got := s.dial(t).ask(Map + " ann@enforce.test"); got != "OK known" {
		t.Error(got)
	}
}

// TestPieces checks that requests may arrive in any pieces, or several at once.
func TestPieces(t *testing.T) {
	c := serve(t, "tcp", nil).dial(t)
	request := string(appendNetstring(nil, Map+" ann@enforce.test"))
	for i := range len(request) {
		c.send(request[i : i+1])
	}
	c.send(request + request)
	for range 3 {
		if got, err := readNetstring(c.reader); got != "OK known" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// TestTimeouts checks that the server disconnects clients that send nothing, half a request or no second
// request, and clients that do not read.
func TestTimeouts(t *testing.T) {
	short := func(cfg *Config) {
		cfg.Idle, cfg.Request, cfg.Write = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	}
	s := serve(t, "unix", short)
	t.Run("nothing", func(t *testing.T) {
		if !s.dial(t).ends() {
			t.Error("the connection goes on")
		}
	})
	t.Run("half a request", func(t *testing.T) {
		c := s.dial(t)
		c.send("28:recipients")
		if !c.ends() {
			t.Error("the connection goes on")
		}
	})
	t.Run("idle", func(t *testing.T) {
		c := s.dial(t)
		c.ask(Map + " ann@enforce.test")
		if !c.ends() {
			t.Error("the connection goes on")
		}
	})
	t.Run("does not read", func(t *testing.T) {
		c := s.dial(t)
		request := strings.Repeat(string(appendNetstring(nil, Map+" ann@enforce.test")), 1000)
		for {
			if _, err := io.WriteString(c, request); err != nil {
				if os.IsTimeout(err) {
					t.Error("the connection goes on")
				}
				return
			}
		}
	})
}

// waitIdle waits until n connections are open and all are idle: a client has its answer before the server notes
// since when the connection is idle.
func (s *running) waitIdle(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.pool.mu.Lock()
		idling := 0
		for c := range s.pool.open {
			if c.state.Load() == idle {
				idling++
			}
		}
		s.pool.mu.Unlock()
		if idling == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are idle, want %d", idling, n)
		}
	}
}

// TestLimit checks that a new connection above the limit replaces the one that has been idle for the longest
// time, or waits if none is idle.
func TestLimit(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{}, 8)
	s := serve(t, "unix", func(cfg *Config) {
		cfg.Connections = 2
		cfg.Policy = testPolicy(t, func(p *policy.Config) {
			p.Index = fakeIndex{func(a address.Address) {
				if a.Local() == "slow" {
					asked <- struct{}{}
					<-hold
				}
			}}
		})
	})
	first, second := s.dial(t), s.dial(t)
	first.ask(Map + " ann@enforce.test")
	second.ask(Map + " ann@enforce.test")
	s.waitIdle(t, 2)
	first.ask(Map + " ann@enforce.test")
	s.waitIdle(t, 2)
	third := s.dial(t)
	third.ask(Map + " ann@enforce.test")
	if !second.ends() {
		t.Error("the connection that was idle for the longest time goes on")
	}
	slow := string(appendNetstring(nil, Map+" slow@enforce.test"))
	first.send(slow)
	third.send(slow)
	<-asked
	<-asked
	fourth := s.dial(t)
	fourth.send(string(appendNetstring(nil, Map+" ann@enforce.test")))
	for _, _, atLimit, _ := s.Connections(); atLimit < 2; _, _, atLimit, _ = s.Connections() {
		time.Sleep(time.Millisecond) // wait until the server has counted it as waiting
	}
	if open, limit, _, failures := s.Connections(); open != 2 || limit != 2 || failures != 0 {
		t.Errorf("%d of %d connections open, %d failures", open, limit, failures)
	}
	close(hold)
	if got, err := readNetstring(fourth.reader); got != "OK known" || err != nil {
		t.Errorf("the connection that waited: %q, %v", got, err)
	}
}

// TestStop checks that a stopping server answers earlier requests, closes idle connections, and serves clients
// that connected before its name was removed.
func TestStop(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{}, 1)
	s := serve(t, "unix", func(cfg *Config) {
		cfg.Policy = testPolicy(t, func(p *policy.Config) {
			p.Index = fakeIndex{func(a address.Address) {
				if a.Local() == "slow" {
					select {
					case asked <- struct{}{}:
						<-hold
					default:
					}
				}
			}}
		})
	})
	idle, working := s.dial(t), s.dial(t)
	idle.ask(Map + " ann@enforce.test")
	working.send(string(appendNetstring(nil, Map+" slow@enforce.test")))
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	if !idle.ends() {
		t.Error("the idle connection goes on")
	}
	close(hold)
	if got, err := readNetstring(working.reader); got != "NOTFOUND " || err != nil {
		t.Errorf("reply of a stopping server: %q, %v", got, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("unix", s.address.String()); err == nil {
		c.Close()
		t.Error("a stopped server listens")
	}
}

// TestDrain checks that a request that does not end is aborted after the drain time.
func TestDrain(t *testing.T) {
	asked := make(chan struct{})
	s := serve(t, "unix", func(cfg *Config) {
		cfg.Drain = 50 * time.Millisecond
		cfg.Policy = testPolicy(t, func(p *policy.Config) { p.Confirm = endless{asked} })
	})
	c := s.dial(t)
	c.send(string(appendNetstring(nil, Map+" nobody@enforce.test")))
	<-asked
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if !c.ends() {
		t.Error("the connection goes on")
	}
}
