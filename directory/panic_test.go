package directory

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// panicking is a connection that panics in the goroutine that uses it: that of the LDAP library
// once the bind is over.
type panicking struct {
	net.Conn
	read, write atomic.Bool
}

func (p *panicking) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if p.read.Load() {
		panic("in the reader")
	}
	return n, err
}

func (p *panicking) Write(b []byte) (int, error) {
	if p.write.Load() {
		panic("in the writer")
	}
	return p.Conn.Write(b)
}

// TestPanicInTheLibrary: it is the error of the operation under way, and nothing hangs.
func TestPanicInTheLibrary(t *testing.T) {
	for name, arm := range map[string]func(*panicking){
		"reader": func(p *panicking) { p.read.Store(true) },
		"writer": func(p *panicking) { p.write.Store(true) },
	} {
		for what, operation := range map[string]func(*Conn) error{
			"read":  func(c *Conn) error { return c.Read(t.Context(), 0, func([]Object) error { return nil }) },
			"watch": func(c *Conn) error { return c.Watch(t.Context(), func() {}, func() {}) },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				var conn *panicking
				c, _ := connect(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{}, func(c *Config) {
					c.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
						raw, err := new(net.Dialer).DialContext(ctx, network, address)
						conn = &panicking{Conn: raw}
						return conn, err
					}
				})
				must[Root](t)(c.Root(t.Context()))
				arm(conn)
				if err := operation(c); !errors.Is(err, ErrProtocol) ||
					!strings.Contains(err.Error(), "panic: in the") {
					t.Errorf("error %v", err)
				}
				c.Close()
				if err := operation(c); err == nil {
					t.Error("a connection after a panic works")
				}
			})
		}
	}
}
