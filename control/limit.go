package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// Limited is a listener that bounds its open connections, so its clients cannot take the file
// descriptors that the daemon needs to answer Postfix. Limit makes one.
//
// Above the limit a new connection replaces the oldest one without a running request: a client
// that sends its request at once is answered also while others hold connections open. If all have
// a running request, it waits for one to end.
type Limited struct {
	net.Listener
	limit    int
	failures atomic.Int64

	mu     sync.Mutex
	free   sync.Cond // a connection or the listener was closed
	open   []*limitedConn
	full   int64
	closed bool
}

// Limit returns a listener with at most limit open connections. The limit must be positive.
func Limit(l net.Listener, limit int) *Limited {
	limited := &Limited{Listener: l, limit: limit}
	limited.free.L = &limited.mu
	return limited
}

// Connections counts the connections of a listener.
type Connections struct {
	Open         int
	Limit        int
	AtLimit      int64 // connections that came when the limit was reached, since the start
	AcceptErrors int64 // failed attempts to accept a connection, since the start
}

// Connections returns the present counts.
func (l *Limited) Connections() Connections {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Connections{Open: len(l.open), Limit: l.limit, AtLimit: l.full, AcceptErrors: l.failures.Load()}
}

// Accept implements net.Listener.
func (l *Limited) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			l.failures.Add(1)
		}
		return nil, err
	}
	c := &limitedConn{Conn: raw, of: l}
	if !l.admit(c) {
		raw.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// admit adds a connection. It reports false if the listener is closed before there is room.
func (l *Limited) admit(c *limitedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.limit {
		l.full++
	}
	for len(l.open) >= l.limit && !l.closed {
		idle := slices.IndexFunc(l.open, func(c *limitedConn) bool { return !c.busy.Load() })
		if idle < 0 {
			l.free.Wait()
			continue
		}
		l.open[idle].Conn.Close()
		l.open = slices.Delete(l.open, idle, idle+1)
	}
	if l.closed {
		return false
	}
	l.open = append(l.open, c)
	return true
}

// Close implements net.Listener.
func (l *Limited) Close() error {
	l.mu.Lock()
	l.closed = true
	l.free.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// limitedConn is a connection of a Limited.
type limitedConn struct {
	net.Conn
	of   *Limited
	busy atomic.Bool // a request is running, or its answer is being written
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if at := slices.Index(c.of.open, c); at >= 0 {
		c.of.open = slices.Delete(c.of.open, at, at+1)
		c.of.free.Signal()
	}
	return err
}

// connKey is the key of the *limitedConn in the context of a request.
type connKey struct{}

// withConn stores the connection, if its number is limited.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if limited, ok := c.(*limitedConn); ok {
		return context.WithValue(ctx, connKey{}, limited)
	}
	return ctx
}

// marking marks the connections of running requests. markIdle removes the mark.
func marking(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*limitedConn); ok {
			c.busy.Store(true)
		}
		next.ServeHTTP(w, r)
	})
}

// markIdle is the ConnState of a server. A request ends when its answer is written: the handler
// returns before that, with the answer still in the buffer of the server. A waiting connection
// may then take the place.
func markIdle(c net.Conn, state http.ConnState) {
	if limited, ok := c.(*limitedConn); ok && state == http.StateIdle {
		limited.of.mu.Lock()
		defer limited.of.mu.Unlock()
		limited.busy.Store(false)
		limited.of.free.Signal()
	}
}
