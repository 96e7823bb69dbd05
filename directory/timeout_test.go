package directory

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// The limits here are short, and what they are set against never ends by itself: a
// limit that does not work shows as a test that hangs.
const short = 50 * time.Millisecond

func TestSilentServersTimeOut(t *testing.T) {
	for _, tc := range []struct {
		name     string
		startTLS bool
		faults   adsim.Faults
		kind     error
	}{
		{"no TLS handshake", false, adsim.Faults{SilentAccept: true}, ErrTimeout},
		{"no answer to StartTLS", true, adsim.Faults{SilentAccept: true}, ErrTimeout},
		{"no answer to the bind", false, adsim.Faults{SilentBind: true}, ErrTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := adsim.StartTest(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{})
			s.SetFaults(tc.faults)
			config := configFor(t, s)
			config.DialTimeout = 2 * time.Second // a busy machine must come as far as the silence
			if tc.startTLS {
				config.URL = s.StartTLSURL()
			}
			_, err := Dial(t.Context(), config)
			wantError(t, tc.name, err, tc.kind, "in time")
		})
	}
}

func TestStalledSearchesTimeOut(t *testing.T) {
	for _, tc := range []struct {
		name   string
		faults adsim.Faults
	}{
		{"no answer", adsim.Faults{SilentSearch: true}},
		{"stalled in mid-page", adsim.Faults{StallAfterEntries: 2}},
		{"stalled on page 2", adsim.Faults{StallAfterEntries: 1, OnPage: 2}},
		{"later than the limit", adsim.Faults{Delay: time.Hour}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := adsim.NewDirectory(adsim.DirectoryConfig{})
			people(t, d, 10)
			c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.PageSize, c.Timeout = 5, 10*time.Second })
			must[Root](t)(c.Root(t.Context()))
			c.config.Timeout = 4 * short
			s.SetFaults(tc.faults)
			_, err := readAll(t.Context(), c, 0)
			wantError(t, tc.name, err, ErrTimeout, "in time")
			_, err = c.Root(t.Context())
			wantError(t, tc.name+", afterwards", err, ErrTimeout, "")
		})
	}
}

// A controller that hangs is noticed long before the time that a page may take.
func TestLookupsHaveTheShorterLimit(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) { c.Timeout = time.Hour })
	must[Root](t)(c.Root(t.Context()))
	if c.config.Lookup != DefaultLookup {
		t.Errorf("limit of a search for one object is %v, want %v", c.config.Lookup, DefaultLookup)
	}
	c.config.Lookup = short
	s.SetFaults(adsim.Faults{Silent: true})
	_, err := c.Root(t.Context())
	wantError(t, "rootDSE", err, ErrTimeout, "in time")
}

// A limit of the caller counts where it is the shorter one.
func TestDeadlineOfTheCaller(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	c, s := connect(t, d, adsim.ServerConfig{}, nil)
	must[Root](t)(c.Root(t.Context()))
	s.SetFaults(adsim.Faults{SilentSearch: true})
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	_, err := readAll(ctx, c, 0)
	wantError(t, "deadline", err, ErrTimeout, "in time")
}

// plug is a connection that stops accepting bytes on request, like a TCP connection whose peer
// no longer reads.
type plug struct {
	net.Conn
	stuck  atomic.Bool
	pipe   net.Conn     // the other end is not read
	writes atomic.Int64 // while stuck and open
	closed atomic.Bool
}

func (p *plug) Write(b []byte) (int, error) {
	if p.stuck.Load() {
		if !p.closed.Load() {
			p.writes.Add(1)
		}
		return p.pipe.Write(b)
	}
	return p.Conn.Write(b)
}

func (p *plug) SetDeadline(t time.Time) error {
	return errors.Join(p.pipe.SetDeadline(t), p.Conn.SetDeadline(t))
}

func (p *plug) SetWriteDeadline(t time.Time) error {
	return errors.Join(p.pipe.SetWriteDeadline(t), p.Conn.SetWriteDeadline(t))
}

func (p *plug) Close() error {
	p.closed.Store(true)
	return errors.Join(p.pipe.Close(), p.Conn.Close())
}

// connectPlug connects through a plug.
func connectPlug(t *testing.T) (*Conn, *plug) {
	t.Helper()
	var conn *plug
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	c, _ := connect(t, d, adsim.ServerConfig{}, func(c *Config) {
		c.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := new(net.Dialer).DialContext(ctx, network, address)
			near, _ := net.Pipe()
			conn = &plug{Conn: raw, pipe: near}
			return conn, err
		}
	})
	must[Root](t)(c.Root(t.Context()))
	return c, conn
}

// A write that has timed out may have ended before the connection is closed. crypto/tls then tries to
// say farewell, and waits for it.
func TestNoFarewellAfterBlockedWrite(t *testing.T) {
	c, conn := connectPlug(t)
	conn.stuck.Store(true)
	c.raw.SetWriteDeadline(time.Now().Add(short)) // not that of reads, which would end the connection first
	if _, err := c.tls.Write([]byte("x")); err == nil {
		t.Fatal("the write did not fail")
	}
	before := conn.writes.Load()
	c.tls.Close()
	if after := conn.writes.Load(); after != before {
		t.Errorf("%d writes to a connection that accepts nothing, want %d", after, before)
	}
}

func TestBlockedWriteTimesOut(t *testing.T) {
	c, conn := connectPlug(t)
	c.config.Timeout = short
	conn.stuck.Store(true)
	begun := time.Now()
	_, err := readAll(t.Context(), c, 0)
	wantError(t, "blocked write", err, ErrTimeout, "in time")
	c.Close()
	if took := time.Since(begun); took > 4*time.Second { // TLS alone would wait 5 s to say farewell
		t.Errorf("a blocked write held us for %v", took)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	c, s := connect(t, d, adsim.ServerConfig{}, nil)
	must[Root](t)(c.Root(t.Context()))
	s.SetFaults(adsim.Faults{SilentSearch: true, BeforePage: func(adsim.Search) { c.Close() }})
	_, err := readAll(t.Context(), c, 0)
	wantError(t, "closed", err, ErrUnreachable, "")
	ok(t, c.Close())
}
