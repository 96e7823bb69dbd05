package harvest

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"rcpt-milter/policy"
)

// sampleSize is the number of addresses in the sample of one network. Up to this number the
// counts are exact. Beyond it an even sample stands for all, with an error of about a tenth.
const sampleSize = 128

// minSample is the minimum number of sampled addresses that were rejected before a network
// is limited. Fewer may be in a sample by chance.
const minSample = 16

// tally counts the different addresses that one network asked about within a window of time,
// in a sample of limited size (adaptive sampling, after Wegman). An address is sampled by its
// hash, so asking again about it changes nothing. The key of the hash is random, so a client
// cannot choose addresses that escape. The zero value is empty. The lock of the shard guards
// it.
type tally struct {
	asked []asked
	depth uint8 // only addresses of at least this level are sampled; each stands for 1<<depth

	sum            counted // over asked
	oldest, newest uint32  // range of asked.at
}

// asked is one address of a sample.
type asked struct {
	id      uint32 // part of its hash
	at      uint32 // Unix time of the last question
	level   uint8  // 1 in 1<<level addresses has at least this level
	weight  uint8  // it stands for 1<<weight addresses
	unknown bool   // it was rejected
}

// counted is the estimate of a tally: numbers of different addresses.
type counted struct {
	unknown int // rejected
	all     int // including unknown
	sampled int // unknown ones in the sample
}

func (c *counted) add(a asked) {
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

// note counts an address by its hash, after it removed what has left the window. It reports
// whether the count of unknown addresses grew.
func (t *tally) note(hash uint64, unknown bool, now uint32, window time.Duration) (counted, bool) {
	id, level := uint32(hash), uint8(bits.LeadingZeros32(uint32(hash>>32)))
	t.forget(now, window)
	for t.depth > 0 && len(t.asked) < sampleSize/4 {
		t.depth--
	}
	if i := t.find(id); i >= 0 {
		a := &t.asked[i]
		same := a.unknown == unknown
		a.at, a.unknown, t.newest = now, unknown, now
		if same {
			return t.sum, false
		}
		t.recount() // the address was added or removed meanwhile
		return t.sum, unknown
	}
	if level < t.depth {
		return t.sum, false
	}
	if len(t.asked) == 0 {
		t.oldest = now
	}
	t.asked, t.newest = append(t.asked, asked{id, now, level, t.depth, unknown}), now
	t.sum.add(t.asked[len(t.asked)-1])
	if len(t.asked) > sampleSize {
		t.downsample()
	}
	return t.sum, unknown
}

// find returns the index of an address, or -1 if it is not in the sample.
func (t *tally) find(id uint32) int {
	for i := range t.asked {
		if t.asked[i].id == id {
			return i
		}
	}
	return -1
}

// forget removes addresses outside the window.
func (t *tally) forget(now uint32, window time.Duration) {
	if len(t.asked) == 0 || within(t.oldest, now, window) && t.newest <= now {
		return
	}
	t.asked = slices.DeleteFunc(t.asked, func(a asked) bool { return !within(a.at, now, window) })
	t.recount()
}

// recount computes sum, oldest and newest.
func (t *tally) recount() {
	t.sum, t.oldest, t.newest = counted{}, math.MaxUint32, 0
	for _, a := range t.asked {
		t.sum.add(a)
		t.oldest, t.newest = min(t.oldest, a.at), max(t.newest, a.at)
	}
}

// within reports whether the Unix time at is less than a duration before now. A time in the future
// was noted before the clock was set back, and is not.
func within(at, now uint32, d time.Duration) bool {
	age, known := policy.Elapsed(time.Unix(int64(at), 0), time.Unix(int64(now), 0))
	return known && age < d
}

// downsample halves the sample and doubles the weight of its addresses, until it is small
// enough. Addresses of a higher weight stay.
func (t *tally) downsample() {
	for len(t.asked) > sampleSize && t.depth < 32 {
		t.depth++
		kept := t.asked[:0]
		for _, a := range t.asked {
			if a.level < t.depth && a.weight < t.depth {
				continue
			}
			a.weight = max(a.weight, t.depth)
			kept = append(kept, a)
		}
		t.asked = kept
	}
	t.recount()
}
