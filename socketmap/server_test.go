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

// TestNewServer: a configuration that cannot work is an error.
func TestNewServer(t *testing.T) {
	for name, cfg := range map[string]Config{"no policy": {}, "negative": {Policy: testPolicy(t, nil), Idle: -1}} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTruncatedAndHostile: what is no request ends the connection, and no other one.
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

// TestPieces: requests may come in any pieces, and several at once.
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

// TestTimeouts: a client that sends nothing, half of a request or no second one is disconnected,
// and so is one that does not read.
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

// TestLimit: above the limit a new connection replaces the one that was idle for the longest
// time, and waits if there is none.
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
	first.ask(Map + " ann@enforce.test")
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
		time.Sleep(time.Millisecond) // the server counts it when it waits
	}
	if open, limit, _, failures := s.Connections(); open != 2 || limit != 2 || failures != 0 {
		t.Errorf("%d of %d connections open, %d failures", open, limit, failures)
	}
	close(hold)
	if got, err := readNetstring(fourth.reader); got != "OK known" || err != nil {
		t.Errorf("the connection that waited: %q, %v", got, err)
	}
}

// TestStop: a stopping server answers what was asked before, closes idle connections, and lets no
// client wait that connected before its name went.
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

// TestDrain: a request that does not end is cut off after the drain time.
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
