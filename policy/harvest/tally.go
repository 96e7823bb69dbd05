package milter

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// sampleSize is how many addresses are remembered of one network. Up to so many the
// counts are exact. Beyond that an evenly drawn part of them stands for all, which is
// right to about a tenth.
const sampleSize = 128

// telling is how many addresses that never existed have to be in a sample, at least,
// before a network is limited for them: fewer may be there by chance.
const telling = 16

// tally counts the different addresses that one network asked about within a window of
// time, in a bounded sample (adaptive sampling, after Wegman). An address is drawn by
// its hash, so that asking again about one changes nothing, and the key of the hash is
// drawn at the start, so that nobody can choose addresses which escape. The zero value
// is empty. It belongs to whoever holds the lock of its shard.
type tally struct {
	asked []asked
	depth uint8 // addresses that are new stand for 1<<depth: only those of at least this level are taken

	sum            counted // of asked
	oldest, newest uint32  // Unix times between which all of them were asked about
}

// asked is one address of a sample.
type asked struct {
	id      uint32 // of its hash
	at      uint32 // Unix time when it was last asked about
	level   uint8  // the part of all addresses that reach it is 1 in 1<<level
	weight  uint8  // it stands for 1<<weight addresses
	unknown bool   // it never existed
}

// counted is what a tally comes to: about how many different addresses were asked about.
type counted struct {
	unknown int // that never existed
	all     int // these included
	sampled int // of the unknown, in the sample
}

func (c *counted) add(a asked) {
	n := 1 << a.weight
	c.all += n
	if a.unknown {
		c.unknown += n
		c.sampled++
	}
}

// over reports whether so many are a limit, at a ratio, or more.
func (c counted) over(limit int, ratio float64) bool {
	return limit > 0 && c.unknown >= limit && c.sampled >= min(limit, telling) &&
		float64(c.unknown) >= ratio*float64(c.all)
}

// note counts an address by its hash, and forgets what has left the window. It reports
// whether the count of unknown addresses has grown by it.
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
		t.recount() // somebody has the address since, or nobody any more
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
		t.deepen()
	}
	return t.sum, unknown
}

// find gives the place of an address, -1 if it is not in the sample.
func (t *tally) find(id uint32) int {
	for i := range t.asked {
		if t.asked[i].id == id {
			return i
		}
	}
	return -1
}

// forget drops what was asked before the window. What lies in the future was noted before
// the clock was set back, and is no better than the past.
func (t *tally) forget(now uint32, window time.Duration) {
	if len(t.asked) == 0 || lately(t.oldest, now, window) && t.newest <= now {
		return
	}
	t.asked = slices.DeleteFunc(t.asked, func(a asked) bool { return !lately(a.at, now, window) })
	t.recount()
}

// recount makes the sums anew.
func (t *tally) recount() {
	t.sum, t.oldest, t.newest = counted{}, math.MaxUint32, 0
	for _, a := range t.asked {
		t.sum.add(a)
		t.oldest, t.newest = min(t.oldest, a.at), max(t.newest, a.at)
	}
}

// lately reports whether a moment is less than a time away from now; both are Unix times.
func lately(at, now uint32, less time.Duration) bool {
	return time.Duration(int64(now)-int64(at)).Abs()*time.Second < less
}

// deepen halves the sample, and doubles what each address in it stands for, until it
// has its size. What stands for more already stays.
func (t *tally) deepen() {
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
