package engine

import (
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rcpt-milter/internal/safely"
)

// MaxConnections is the greatest limit of the connections of all members together, and of hosts that are not members.
// The engine shares its file descriptors with the daemon, which also serves Postfix.
const MaxConnections = 10_000

// Limits that keep one member, or a host that is not a member, from starving the others.
const (
	maxMemberConnections = 8    // of one member at one node; a further connection ends the oldest
	maxSubscriptions     = 1000 // per connection
)

// Limits of what an edge may send to one node within floodInterval. Reading a million objects, reports and
// queries need far less. An edge that exceeds a limit is banned for floodBan.
const (
	floodInterval = 2 * time.Second
	floodMessages = 10_000
	floodBytes    = 16 << 20
	floodOpened   = 50 // new connections
	floodBan      = time.Minute
)

// usage is what a member has sent since the last check.
type usage struct{ messages, bytes, opened int64 }

func (u usage) isFlood() bool {
	return u.messages > floodMessages || u.bytes > floodBytes || u.opened > floodOpened
}

// limit checks for floods until ctx ends.
func (e *Engine) limit(ctx context.Context) {
	ticker := time.NewTicker(floodInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		_ = safely.Do(e.config.Log, "limits of the engine", func() error { // Do logs the error
			e.endFloods()
			return nil
		})
	}
}

// endFloods disconnects and bans the edges that have sent too much since the last call.
func (e *Engine) endFloods() {
	all, err := e.server.Connz(&server.ConnzOptions{Limit: MaxConnections})
	if err != nil {
		e.config.Log.Debug("cannot list the connections of the engine", "error", err)
		return
	}
	for _, name := range e.members.floods(all.Conns, e.config.Now()) {
		e.config.Log.Warn("an edge floods the engine and is disconnected", "edge", name, "for", floodBan)
		e.members.kick(name)
	}
}

// floods bans the edges that have sent too much since the last call, and returns their names.
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
		if u.isFlood() && m.all[name].Role == Edge { // hubs are exempt: they may publish a million objects
			m.banned[name] = now.Add(floodBan)
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// bans returns the names of the edges that this node bans at the moment.
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

// oldest returns the IDs of the connections of a member beyond maxMemberConnections. The caller holds the lock.
func (m *members) oldest(name string) (ids []uint64) {
	for id, c := range m.conns {
		if c.name == name {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids) // connection IDs increase with time
	return ids[:max(0, len(ids)-maxMemberConnections)]
}
