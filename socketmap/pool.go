package socketmap

import (
	"math"
	"sync"
	"sync/atomic"
)

// pool limits the open connections. At the limit, a new connection replaces the one that has been idle for the
// longest time. That is safe, because Postfix keeps idle connections open and reconnects when it needs one. If
// all connections are busy, the new one waits until one becomes idle. Requests take no lock unless a connection
// waits.
type pool struct {
	limit   int
	waiting atomic.Int32 // connections that wait for room
	full    atomic.Int64 // connections that arrived when the limit was reached

	mu     sync.Mutex
	room   sync.Cond // signaled when a connection ends, or becomes idle while another one waits
	open   map[*conn]struct{}
	closed bool // reject new connections
}

func newPool(limit int) *pool {
	p := &pool{limit: limit, open: map[*conn]struct{}{}}
	p.room.L = &p.mu
	return p
}

// admit adds a connection. It reports false if the pool is closed before there is room.
func (p *pool) admit(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= p.limit {
		p.full.Add(1)
	}
	for len(p.open) >= p.limit && !p.closed {
		p.waiting.Add(1)
		if !p.dropIdle() {
			p.room.Wait()
		}
		p.waiting.Add(-1)
	}
	if p.closed {
		return false
	}
	p.open[c] = struct{}{}
	return true
}

// dropIdle closes the connection that has been idle for the longest time. It reports false if none is idle. The
// caller holds the lock.
func (p *pool) dropIdle() bool {
	for {
		var oldest *conn
		since := int64(math.MaxInt64)
		for c := range p.open {
			if at := c.idleSince.Load(); at < since && c.state.Load() == idle {
				oldest, since = c, at
			}
		}
		if oldest == nil {
			return false
		}
		if oldest.drop() { // otherwise its next request has arrived
			delete(p.open, oldest)
			return true
		}
	}
}

// becameIdle lets a waiting connection replace the connection whose request has ended.
func (p *pool) becameIdle() {
	if p.waiting.Load() > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.room.Signal()
	}
}

// remove removes a connection that has ended.
func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	p.room.Signal()
}

// dropAllIdle closes all idle connections. It keeps those that have not yet answered a request unless fresh is
// set.
func (p *pool) dropAllIdle(fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if fresh || c.answered.Load() {
			c.drop()
		}
	}
}

// abort closes all connections and rejects new ones.
func (p *pool) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.open {
		c.Conn.Close()
	}
	p.room.Broadcast()
}

// use returns the number of open connections.
func (p *pool) use() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}
