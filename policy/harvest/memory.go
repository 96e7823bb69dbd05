package harvest

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
	"unsafe"
)

const (
	// shards is the number of parts of a Memory. Each has its own lock, so sessions seldom wait for each other.
	shards = 64

	// MaxBytes limits the size of a Memory. It suffices for 125,000 networks that tried one or two addresses
	// each, or for 18,000 that tried hundreds.
	MaxBytes = 32 << 20

	// recordBytes is the size of a network without its sample: its record, plus its measured share of the map and
	// the list, which grow by doubling.
	recordBytes = int(unsafe.Sizeof(record{})) + 140

	// candidatesForEviction is the number of networks drawn at random to choose one for eviction.
	candidatesForEviction = 8
)

// Memory stores what the networks of clients have tried, over all their sessions, in limited space. Several
// Limits may share it. It is safe for concurrent use. Create it with NewMemory.
type Memory struct {
	seed   maphash.Seed
	bound  int // limit of a shard, in bytes
	shards [shards]shard
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return newMemory(MaxBytes) }

func newMemory(bytes int) *Memory {
	return &Memory{seed: maphash.MakeSeed(), bound: bytes / shards}
}

// Probe acquires and releases all locks that a RCPT may wait for.
func (m *Memory) Probe() {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		_ = s.bytes
		s.mu.Unlock()
	}
}

// kind is a kind of mail. Each kind has its own counts.
type kind uint8

const (
	ordinary      kind = iota
	firstOfBounce      // the first recipient of a message from the null sender
	restOfBounce       // the other recipients of such a message
)

// account identifies the counts of one network for one kind of mail.
type account struct {
	network netip.Prefix
	kind    kind
}

// shard returns the shard of an account.
func (m *Memory) shard(a account) *shard {
	return &m.shards[maphash.Comparable(m.seed, a)%shards]
}

// charge counts an address in a budget. It reports whether the network reached its limit by it. Nothing is
// counted during a penalty: a deferred client retries the same addresses, and would otherwise stay limited
// forever.
func (m *Memory) charge(cfg *Config, b budget, recipient string, unknown bool, now uint32) (counted, bool) {
	s := m.shard(b.account)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, isNew := s.record(b.account)
	if r.limited(now, cfg.Penalty) {
		return counted{}, false
	}
	before := r.bytes()
	count, grew := r.tally.note(maphash.String(m.seed, recipient), unknown, now, cfg.Window)
	over := grew && count.over(b.unknown, cfg.Ratio)
	if over {
		r.over, r.unknown, r.tally = now, count.unknown, tally{}
	}
	s.bytes += r.bytes() - before
	if isNew {
		s.tidy(r, cfg, now)
	}
	s.shrink(m.bound, r, cfg, now)
	return count, over
}

// limited reports whether an account is over its limit.
func (m *Memory) limited(a account, now uint32, penalty time.Duration) bool {
	s := m.shard(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[a]
	return r != nil && r.limited(now, penalty)
}

// state returns the state of an account.
func (m *Memory) state(cfg *Config, a account, now uint32) State {
	s := m.shard(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[a]; r != nil {
		return r.state(cfg, now)
	}
	return a.state()
}

// state returns the state of an account without counts.
func (a account) state() State { return State{Network: a.network, Bounces: a.kind != ordinary} }

// shard stores part of the networks.
type shard struct {
	mu      sync.Mutex // guards the fields below
	records map[account]*record
	list    []*record // the records, for drawing at random
	bytes   int
}

// record describes one network, for one kind of mail.
type record struct {
	account
	tally   tally
	over    uint32 // Unix time when the limit was reached; 0 means not limited
	unknown int    // number of rejected addresses at that time
	place   int    // index in shard.list
}

func (r *record) bytes() int {
	return recordBytes + cap(r.tally.entries)*int(unsafe.Sizeof(entry{}))
}

// limited reports whether the network is limited. It clears a penalty that has expired.
func (r *record) limited(now uint32, penalty time.Duration) bool {
	if r.over != 0 && !within(r.over, now, penalty) {
		r.over, r.unknown = 0, 0
	}
	return r.over != 0
}

func (r *record) state(cfg *Config, now uint32) State {
	state := r.account.state()
	if r.limited(now, cfg.Penalty) {
		state.Unknown, state.Until = r.unknown, time.Unix(int64(r.over), 0).Add(cfg.Penalty)
		return state
	}
	r.tally.forget(now, cfg.Window)
	state.Unknown, state.Recipients = r.tally.sum.unknown, r.tally.sum.all
	return state
}

// record returns the record of an account. It creates the record if there is none.
func (s *shard) record(a account) (r *record, isNew bool) {
	if r := s.records[a]; r != nil {
		return r, false
	}
	r = &record{account: a, place: len(s.list)}
	if s.records == nil {
		s.records = map[account]*record{}
	}
	s.records[a] = r
	s.list = append(s.list, r)
	s.bytes += r.bytes()
	return r, true
}

// forget removes a record.
func (s *shard) forget(r *record) {
	s.bytes -= r.bytes()
	delete(s.records, r.account)
	end := len(s.list) - 1
	s.list[r.place] = s.list[end]
	s.list[r.place].place = r.place
	s.list[end] = nil
	s.list = s.list[:end]
}

// shrink evicts networks until the shard takes at most bound bytes. Each time it draws a few networks at random
// and evicts the one that tried the fewest addresses. To evict a network, an attacker must try as many
// addresses as the network did, from as many networks as fit into memory. A new network that keeps trying is
// seldom drawn before it outweighs others. Limited networks are evicted last. The network in kept is never
// evicted.
func (s *shard) shrink(bound int, kept *record, cfg *Config, now uint32) {
	for s.bytes > bound && len(s.list) > 1 {
		var victim *record
		least := 0
		for range candidatesForEviction {
			r := s.list[rand.IntN(len(s.list))]
			if worth := r.worthNow(cfg, now); r != kept && (victim == nil || worth < least) {
				victim, least = r, worth
			}
		}
		if victim != nil {
			s.forget(victim)
		}
	}
}

// tidy draws two networks at random and removes those that tried nothing within the window. It is called for
// each new network, which keeps the shard small.
func (s *shard) tidy(kept *record, cfg *Config, now uint32) {
	for range 2 {
		if r := s.list[rand.IntN(len(s.list))]; r != kept && r.worthNow(cfg, now) == 0 {
			s.forget(r)
		}
	}
}

// worthNow ranks networks for eviction: the lowest is evicted first.
func (r *record) worthNow(cfg *Config, now uint32) int {
	const limited = 1 << 40
	switch {
	case r.limited(now, cfg.Penalty):
		return limited
	case within(r.tally.newest, now, cfg.Window):
		return r.tally.sum.all
	}
	return 0
}
