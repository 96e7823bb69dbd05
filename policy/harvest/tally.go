package harvest

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"rcpt-milter/internal/clock"
)

// sampleSize limits the addresses in the sample of one network. Up to this number, the counts are exact. Beyond
// it, they are estimates from a uniform sample, with an error of about 10 percent.
const sampleSize = 128

// minSample is the minimum number of rejected addresses in a sample before a network is limited. A smaller
// number may be chance.
const minSample = 16

// tally counts the distinct addresses that one network tried within a window of time, in a sample of limited
// size (adaptive sampling, after Wegman). The hash of an address decides whether it is sampled, so trying it
// again changes nothing. The key of the hash is random, so a client cannot choose addresses that escape the
// sample. The zero value is empty. The lock of the shard guards it.
type tally struct {
	entries []entry
	depth   uint8 // only addresses of at least this level are added; each counts as 1<<depth

	sum            counted // total of the entries
	oldest, newest uint32  // range of entry.at
}

// entry is one address of a sample.
type entry struct {
	id      uint32 // part of the hash
	at      uint32 // Unix time of the last attempt
	level   uint8  // one in 1<<level addresses has at least this level
	weight  uint8  // counts as 1<<weight addresses
	unknown bool   // was rejected
}

// counted is the estimate of a tally, in numbers of distinct addresses.
type counted struct {
	unknown int // rejected
	all     int // including unknown
	sampled int // rejected addresses in the sample
}

func (c *counted) add(a entry) {
	n := 1 << a.weight
	c.all += n
	if a.unknown {
		c.unknown += n
		c.sampled++
	}
}

// over reports whether the counts reach a limit and a ratio.
func (c counted) over(limit int, ratio float64) bool {
	return limit > 0 && c.unknown >= limit && c.sampled >= min(limit, minSample) &&
		float64(c.unknown) >= ratio*float64(c.all)
}

// note counts an address by its hash, after it has removed expired addresses. It reports whether the count of
// rejected addresses grew.
func (t *tally) note(hash uint64, unknown bool, now uint32, window time.Duration) (counted, bool) {
	id, level := uint32(hash), uint8(bits.LeadingZeros32(uint32(hash>>32)))
	t.forget(now, window)
	for t.depth > 0 && len(t.entries) < sampleSize/4 {
		t.depth--
	}
	if i := t.find(id); i >= 0 {
		a := &t.entries[i]
		same := a.unknown == unknown
		a.at, a.unknown, t.newest = now, unknown, now
		if same {
			return t.sum, false
		}
		t.recount() // the address was created or removed since its last attempt
		return t.sum, unknown
	}
	if level < t.depth {
		return t.sum, false
	}
	if len(t.entries) == 0 {
		t.oldest = now
	}
	t.entries, t.newest = append(t.entries, entry{id, now, level, t.depth, unknown}), now
	t.sum.add(t.entries[len(t.entries)-1])
	if len(t.entries) > sampleSize {
		t.downsample()
	}
	return t.sum, unknown
}

// find returns the index of an address, or -1 if it is not in the sample.
func (t *tally) find(id uint32) int {
	for i := range t.entries {
		if t.entries[i].id == id {
			return i
		}
	}
	return -1
}

// forget removes addresses outside the window.
func (t *tally) forget(now uint32, window time.Duration) {
	if len(t.entries) == 0 || within(t.oldest, now, window) && t.newest <= now {
		return
	}
	t.entries = slices.DeleteFunc(t.entries, func(a entry) bool { return !within(a.at, now, window) })
	t.recount()
}

// recount computes sum, oldest and newest.
func (t *tally) recount() {
	t.sum, t.oldest, t.newest = counted{}, math.MaxUint32, 0
	for _, a := range t.entries {
		t.sum.add(a)
		t.oldest, t.newest = min(t.oldest, a.at), max(t.newest, a.at)
	}
}

// within reports whether the Unix time at is less than d before now. It returns false for a time in the future,
// which was recorded before the clock was set back.
func within(at, now uint32, d time.Duration) bool {
	age, known := clock.Elapsed(time.Unix(int64(at), 0), time.Unix(int64(now), 0))
	return known && age < d
}

// downsample halves the sample and doubles the weight of the rest until the sample is small enough. It keeps
// addresses that already have a higher weight.
func (t *tally) downsample() {
	for len(t.entries) > sampleSize && t.depth < 32 {
		t.depth++
		kept := t.entries[:0]
		for _, a := range t.entries {
			if a.level < t.depth && a.weight < t.depth {
				continue
			}
			a.weight = max(a.weight, t.depth)
			kept = append(kept, a)
		}
		t.entries = kept
	}
	t.recount()
}
