package socketmap

import (
	"math"
	"sync"
	"sync/atomic"
)

// pool bounds the open connections. Above the limit a new connection replaces the one that has
// been idle for the longest time: Postfix keeps idle connections open, and connects again when it
// needs one. If all have a running request, the new one waits for one to end. Requests take no
// lock unless a connection waits.
type pool struct {
	limit   int
	waiting atomic.Int32 // connections that wait for room
	full    atomic.Int64 // connections that came when the limit was reached

	mu     sync.Mutex
	room   sync.Cond // a connection ended, or became idle while another one waits
	open   map[*conn]struct{}
	closed bool // nothing more is let in
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

// dropIdle closes the connection that has been idle for the longest time. It reports false if
// none is idle. The caller holds the lock.
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
		if oldest.drop() { // otherwise its next request has come
			delete(p.open, oldest)
			return true
		}
	}
}

// becameIdle lets a waiting connection take the place of one whose request ended.
func (p *pool) becameIdle() {
	if p.waiting.Load() > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.room.Signal()
	}
}

// remove removes a connection that ended.
func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	p.room.Signal()
}

// dropAllIdle closes all connections without a running request; those that were never answered
// only if fresh is set.
func (p *pool) dropAllIdle(fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if fresh || c.answered.Load() {
			c.drop()
		}
	}
}

// abort closes all connections, and lets nothing more in.
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
