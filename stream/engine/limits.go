package engine

import (
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rcpt-milter/internal/safely"
)

// Limits that keep one member, or a stranger, from using up what the others need. The file descriptors are
// those of the daemon, which also serves Postfix.
const (
	maxConnections       = 10_000 // of all members together, and of hosts that are no member
	maxMemberConnections = 8      // of one member at a node; beyond it the oldest one ends
	maxSubscriptions     = 1000   // of one connection
)

// What an edge may send to a node in floodInterval. Reading a million objects, reports and questions take
// far less. An edge that sends more has to wait for floodBan before it may connect again.
const (
	floodInterval = 2 * time.Second
	floodMessages = 10_000
	floodBytes    = 16 << 20
	floodOpened   = 50 // connections
	floodBan      = time.Minute
)

// usage is what a member sent since the last look.
type usage struct{ messages, bytes, opened int64 }

func (u usage) isFlood() bool {
	return u.messages > floodMessages || u.bytes > floodBytes || u.opened > floodOpened
}

// limit looks for edges that flood this node until ctx ends.
func (e *Engine) limit(ctx context.Context) {
	ticker := time.NewTicker(floodInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		_ = safely.Do(e.config.Log, "limits of the engine", func() error { // it logs the error
			e.endFloods()
			return nil
		})
	}
}

// endFloods disconnects edges that sent too much since the last call.
func (e *Engine) endFloods() {
	all, err := e.server.Connz(&server.ConnzOptions{Limit: maxConnections})
	if err != nil {
		e.config.Log.Debug("cannot list the connections of the engine", "error", err)
		return
	}
	for _, name := range e.members.floods(all.Conns, e.config.Now()) {
		e.config.Log.Warn("an edge floods the engine and is disconnected", "edge", name, "for", floodBan)
		e.members.kick(name)
	}
}

// floods bans the edges that sent too much since the last call, and returns their names.
func (m *members) floods(conns []*server.ConnInfo, now time.Time) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := map[string]usage{}
	for name, n := range m.opened {
		sent[name] = usage{opened: n}
	}
	clear(m.opened)
	for _, info := range conns {
		c, ok := m.conns[info.Cid]
		if !ok {
			continue
		}
		u := sent[c.name]
		u.messages += info.InMsgs - c.messages
		u.bytes += info.InBytes - c.bytes
		sent[c.name] = u
		c.messages, c.bytes = info.InMsgs, info.InBytes
		m.conns[info.Cid] = c
	}
	for name, u := range sent {
		if u.isFlood() && m.all[name].Role == Edge { // a hub may publish a million objects
			m.banned[name] = now.Add(floodBan)
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// bans returns the names of the edges that may not connect because they flooded this node.
func (m *members) bans(now time.Time) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, until := range m.banned {
		if now.Before(until) {
			names = append(names, name)
		} else {
			delete(m.banned, name)
		}
	}
	slices.Sort(names)
	return names
}

// oldest returns the connections of a member beyond maxMemberConnections. The caller holds the lock.
func (m *members) oldest(name string) (ids []uint64) {
	for id, c := range m.conns {
		if c.name == name {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids) // the server counts up
	return ids[:max(0, len(ids)-maxMemberConnections)]
}
