package milter

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
	"unsafe"
)

const (
	// harvestShards is into how many parts the memory is cut, so that sessions seldom
	// wait for each other.
	harvestShards = 64

	// HarvestOctets bounds what a HarvestMemory takes, whatever it is made to remember. It
	// is enough for 125,000 networks that asked about an address or two, or for 18,000
	// that asked about hundreds.
	HarvestOctets = 32 << 20

	// recordOctets is what a network costs without what it asked: its record, and its
	// share, as measured, of a map and a list that grow by doubling.
	recordOctets = int(unsafe.Sizeof(harvestRecord{})) + 140

	// candidatesForEviction is how many networks are looked at to find the one to forget.
	candidatesForEviction = 8
)

// HarvestMemory remembers what the networks of clients asked about, over all their
// sessions, in bounded memory. Make it with NewHarvestMemory; it may be used by several
// Harvests, and concurrently.
type HarvestMemory struct {
	seed   maphash.Seed
	bound  int // of the octets of a shard
	shards [harvestShards]harvestShard
}

// NewHarvestMemory makes one that remembers nothing yet.
func NewHarvestMemory() *HarvestMemory { return newHarvestMemory(HarvestOctets) }

func newHarvestMemory(octets int) *HarvestMemory {
	return &HarvestMemory{seed: maphash.MakeSeed(), bound: octets / harvestShards}
}

// shard is where a network is remembered.
func (m *HarvestMemory) shard(network netip.Prefix) *harvestShard {
	return &m.shards[maphash.Comparable(m.seed, network)%harvestShards]
}

// charge counts an address for a network. It reports whether that takes the network
// over the limit. While the penalty lasts nothing is counted: who was put off with a
// temporary reply asks again about the same, and would never be done.
func (m *HarvestMemory) charge(cfg *HarvestConfig, network netip.Prefix, recipient string, unknown bool, now uint32) (counted, bool) {
	s := m.shard(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, isNew := s.record(network)
	if r.limited(now, cfg.Penalty) {
		return counted{}, false
	}
	before := r.octets()
	count, grew := r.tally.note(maphash.String(m.seed, recipient), unknown, now, cfg.Window)
	over := grew && count.over(cfg.Unknown, cfg.Ratio)
	if over {
		r.over, r.unknown, r.tally = now, count.unknown, tally{}
	}
	s.octets += r.octets() - before
	if isNew {
		s.tidy(r, cfg, now)
	}
	s.shrink(m.bound, r, cfg, now)
	return count, over
}

// limited reports whether a network is over the limit.
func (m *HarvestMemory) limited(network netip.Prefix, now uint32, penalty time.Duration) bool {
	s := m.shard(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[network]
	return r != nil && r.limited(now, penalty)
}

// state is what is remembered of a network.
func (m *HarvestMemory) state(cfg *HarvestConfig, network netip.Prefix, now uint32) HarvestState {
	s := m.shard(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[network]; r != nil {
		return r.state(cfg, now)
	}
	return HarvestState{Network: network}
}

// harvestShard is a part of the networks.
type harvestShard struct {
	mu      sync.Mutex // guards all below
	records map[netip.Prefix]*harvestRecord
	list    []*harvestRecord // the same, to draw from
	octets  int
}

// harvestRecord is what is known of one network.
type harvestRecord struct {
	network netip.Prefix
	tally   tally
	over    uint32 // Unix time when it went over the limit; 0: it did not, or that is over
	unknown int    // how many addresses that never existed it had asked about then
	place   int    // in the list
}

func (r *harvestRecord) octets() int {
	return recordOctets + cap(r.tally.asked)*int(unsafe.Sizeof(asked{}))
}

// limited reports whether the network is under its penalty, and forgets one that is over.
func (r *harvestRecord) limited(now uint32, penalty time.Duration) bool {
	if r.over != 0 && !lately(r.over, now, penalty) {
		r.over, r.unknown = 0, 0
	}
	return r.over != 0
}

func (r *harvestRecord) state(cfg *HarvestConfig, now uint32) HarvestState {
	if r.limited(now, cfg.Penalty) {
		return HarvestState{Network: r.network, Unknown: r.unknown, Until: time.Unix(int64(r.over), 0).Add(cfg.Penalty)}
	}
	r.tally.forget(now, cfg.Window)
	return HarvestState{Network: r.network, Unknown: r.tally.sum.unknown, Recipients: r.tally.sum.all}
}

// record is the record of a network, made where there is none.
func (s *harvestShard) record(network netip.Prefix) (r *harvestRecord, isNew bool) {
	if r := s.records[network]; r != nil {
		return r, false
	}
	r = &harvestRecord{network: network, place: len(s.list)}
	if s.records == nil {
		s.records = map[netip.Prefix]*harvestRecord{}
	}
	s.records[network] = r
	s.list = append(s.list, r)
	s.octets += r.octets()
	return r, true
}

// forget drops a record.
func (s *harvestShard) forget(r *harvestRecord) {
	s.octets -= r.octets()
	delete(s.records, r.network)
	end := len(s.list) - 1
	s.list[r.place] = s.list[end]
	s.list[r.place].place = r.place
	s.list[end] = nil
	s.list = s.list[:end]
}

// shrink forgets networks until the shard is within a bound of octets: of a few that are
// drawn by lot, the one that asked about the fewest addresses. So whoever would push a
// network out has to ask about as many addresses as it did, from as many networks as fit
// into memory, while one that has just come and asks on is seldom drawn before it has
// become worth more than others. Networks under their penalty go last, and kept does not
// go at all.
func (s *harvestShard) shrink(bound int, kept *harvestRecord, cfg *HarvestConfig, now uint32) {
	for s.octets > bound && len(s.list) > 1 {
		var victim *harvestRecord
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

// tidy forgets a network drawn by lot if it has asked about nothing lately, and one
// more: called for each network that comes, it keeps the shard no larger than it must be.
func (s *harvestShard) tidy(kept *harvestRecord, cfg *HarvestConfig, now uint32) {
	for range 2 {
		if r := s.list[rand.IntN(len(s.list))]; r != kept && r.worthNow(cfg, now) == 0 {
			s.forget(r)
		}
	}
}

// worthNow orders networks by how little they are missed.
func (r *harvestRecord) worthNow(cfg *HarvestConfig, now uint32) int {
	const limited = 1 << 40
	switch {
	case r.limited(now, cfg.Penalty):
		return limited
	case lately(r.tally.newest, now, cfg.Window):
		return r.tally.sum.all
	}
	return 0
}
