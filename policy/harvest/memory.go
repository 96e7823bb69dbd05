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
	// shards is the number of parts of a Memory, each with its own lock, so sessions seldom
	// wait for each other.
	shards = 64

	// MaxBytes is the most that a Memory takes. It is enough for 125,000 networks that asked
	// about an address or two, or for 18,000 that asked about hundreds.
	MaxBytes = 32 << 20

	// recordBytes is the cost of a network without its sample: its record, and its measured
	// share of a map and a list that grow by doubling.
	recordBytes = int(unsafe.Sizeof(record{})) + 140

	// candidatesForEviction is how many networks are drawn to find the one to forget.
	candidatesForEviction = 8
)

// Memory holds what the networks of clients asked about, over all their sessions, in limited
// space. It may be used by several Limits, and concurrently. Make it with NewMemory.
type Memory struct {
	seed   maphash.Seed
	bound  int // of a shard, in bytes
	shards [shards]shard
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return newMemory(MaxBytes) }

func newMemory(bytes int) *Memory {
	return &Memory{seed: maphash.MakeSeed(), bound: bytes / shards}
}

// shard returns the shard of a network.
func (m *Memory) shard(network netip.Prefix) *shard {
	return &m.shards[maphash.Comparable(m.seed, network)%shards]
}

// charge counts an address for a network, and reports whether the network went over the
// limit with it. Nothing is counted during a penalty: a client that was deferred retries the
// same addresses, and would otherwise never get out.
func (m *Memory) charge(cfg *Config, network netip.Prefix, recipient string, unknown bool, now uint32) (counted, bool) {
	s := m.shard(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, isNew := s.record(network)
	if r.limited(now, cfg.Penalty) {
		return counted{}, false
	}
	before := r.bytes()
	count, grew := r.tally.note(maphash.String(m.seed, recipient), unknown, now, cfg.Window)
	over := grew && count.over(cfg.Unknown, cfg.Ratio)
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

// limited reports whether a network is over the limit.
func (m *Memory) limited(network netip.Prefix, now uint32, penalty time.Duration) bool {
	s := m.shard(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[network]
	return r != nil && r.limited(now, penalty)
}

// state returns the state of a network.
func (m *Memory) state(cfg *Config, network netip.Prefix, now uint32) State {
	s := m.shard(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[network]; r != nil {
		return r.state(cfg, now)
	}
	return State{Network: network}
}

// shard holds a part of the networks.
type shard struct {
	mu      sync.Mutex // guards the rest
	records map[netip.Prefix]*record
	list    []*record // the same, to draw from at random
	bytes   int
}

// record is one network.
type record struct {
	network netip.Prefix
	tally   tally
	over    uint32 // Unix time when it went over the limit; 0: not limited
	unknown int    // addresses that never existed, when it went over
	place   int    // index in shard.list
}

func (r *record) bytes() int {
	return recordBytes + cap(r.tally.asked)*int(unsafe.Sizeof(asked{}))
}

// limited reports whether the network is limited. It clears a penalty that has ended.
func (r *record) limited(now uint32, penalty time.Duration) bool {
	if r.over != 0 && !within(r.over, now, penalty) {
		r.over, r.unknown = 0, 0
	}
	return r.over != 0
}

func (r *record) state(cfg *Config, now uint32) State {
	if r.limited(now, cfg.Penalty) {
		return State{Network: r.network, Unknown: r.unknown, Until: time.Unix(int64(r.over), 0).Add(cfg.Penalty)}
	}
	r.tally.forget(now, cfg.Window)
	return State{Network: r.network, Unknown: r.tally.sum.unknown, Recipients: r.tally.sum.all}
}

// record returns the record of a network, and makes it if there is none.
func (s *shard) record(network netip.Prefix) (r *record, isNew bool) {
	if r := s.records[network]; r != nil {
		return r, false
	}
	r = &record{network: network, place: len(s.list)}
	if s.records == nil {
		s.records = map[netip.Prefix]*record{}
	}
	s.records[network] = r
	s.list = append(s.list, r)
	s.bytes += r.bytes()
	return r, true
}

// forget removes a record.
func (s *shard) forget(r *record) {
	s.bytes -= r.bytes()
	delete(s.records, r.network)
	end := len(s.list) - 1
	s.list[r.place] = s.list[end]
	s.list[r.place].place = r.place
	s.list[end] = nil
	s.list = s.list[:end]
}

// shrink forgets networks until the shard takes at most bound bytes. Each time it draws a
// few networks at random and forgets the one that asked about the fewest addresses. To push
// a network out, an attacker has to ask about as many addresses as it did, from as many
// networks as fit into memory. A new network that goes on asking is seldom drawn before it
// outweighs others. Limited networks go last. The network in kept stays.
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

// tidy draws two networks at random and forgets those that asked about nothing within the
// window. It is called for each new network, which keeps the shard small.
func (s *shard) tidy(kept *record, cfg *Config, now uint32) {
	for range 2 {
		if r := s.list[rand.IntN(len(s.list))]; r != kept && r.worthNow(cfg, now) == 0 {
			s.forget(r)
		}
	}
}

// worthNow orders networks for eviction: the lowest goes first.
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
