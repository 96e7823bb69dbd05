package stream

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
)

// The engine answers each ping, so silenceLimit detects a dead connection. Any received bytes count, so a slow
// but busy connection is not considered lost. In any case, a connection ends after maxPings unanswered pings.
const (
	pingInterval = 2 * time.Second
	silenceLimit = 8 * time.Second
	maxPings     = 60
)

// dialer makes connections that fail after silenceLimit without data. Dialing ends with ctx.
type dialer struct{ ctx context.Context }

// Dial connects to an engine.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &guardedConn{Conn: conn, stop: context.AfterFunc(d.ctx, func() { conn.Close() })}, nil
}

// guardedConn is a connection whose reads and writes fail after silenceLimit without progress. The library
// writes with its lock held, so a write must not block for long.
type guardedConn struct {
	net.Conn
	stop func() bool

	mu    sync.Mutex
	limit time.Time // deadline set by the library; zero means none
}

func (c *guardedConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(c.deadline()); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *guardedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(c.deadline()); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// SetDeadline limits the connection setup.
func (c *guardedConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.limit = t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

func (c *guardedConn) deadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	silent := time.Now().Add(silenceLimit)
	if !c.limit.IsZero() && c.limit.Before(silent) {
		return c.limit
	}
	return silent
}

func (c *guardedConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// errLost ends all waits for answers over a lost connection. Requests and consumers do not survive their
// connection.
var errLost = &kindError{directory.ErrUnreachable, "the connection to the engine was lost meanwhile", nil}

// session is a connection until it is lost.
type session struct {
	js      jetstream.JetStream
	lost    <-chan struct{} // closed when the connection is lost
	managed bool            // the engine creates the streams, and does not permit this host to
}

// session returns the current session, or an error if there is no connection. It waits for the first attempt to
// connect, or until ctx ends.
func (c *Client) session(ctx context.Context) (session, error) {
	a, err := c.connection(ctx)
	if err != nil {
		return session{}, err
	}
	c.mu.Lock()
	lost, connected := c.lost, c.status.Connected && c.current == a
	c.mu.Unlock()
	if !connected {
		return session{}, c.unconnected(nil)
	}
	js, err := a.js()
	return session{js: js, lost: lost, managed: c.config.InProcess == nil && isEngine(a.nc)}, err
}

// isEngine reports whether a daemon runs the server of a connection.
func isEngine(nc *nats.Conn) bool {
	return nc.ConnectedClusterName() == EngineName || nc.ConnectedServerName() == EngineName
}

// over reports whether the connection was lost.
func (s session) over() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// within returns a context that is also canceled when the session ends.
func (s session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.lost:
			cancel(errLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// whyEnded returns errLost if the end of the session caused err; otherwise it returns err.
func whyEnded(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errLost) {
		return errLost
	}
	return err
}

// away returns a channel that is closed at the next connection. It returns nil if there is a connection.
func (c *Client) away() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Connected {
		return nil
	}
	return c.back
}
