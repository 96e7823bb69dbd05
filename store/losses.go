package store

import (
	"fmt"
	"sync"
	"time"
)

// lossCache holds which passes removed addresses without an approval, and the addresses that
// recent ones removed. It is empty until the first query and is kept current from then on. A
// pass that has ended changes none of its journal rows, so they are read once.
type lossCache struct {
	sync.Mutex
	passes map[uint64]time.Time // when they ended; nil means not read yet
	byPass map[uint64][]loss
}

// note adds a pass that has just ended.
func (c *lossCache) note(p PassInfo) {
	c.Lock()
	defer c.Unlock()
	if c.passes != nil && p.lost() {
		c.passes[p.Number] = p.Ended
	}
}

// forget empties the cache.
func (c *lossCache) forget() {
	c.Lock()
	defer c.Unlock()
	c.passes, c.byPass = nil, nil
}

// lost reports whether the pass removed addresses without an approval.
func (p *PassInfo) lost() bool { return p.Removed > 0 && !p.Approved }

// loss is an address that an object of a directory lost, for all senders or for outside senders.
type loss struct {
	dir     dirID
	address string
}

// Lost counts addresses that were lost.
type Lost struct {
	Addresses int // without an owner now, or without one that accepts mail from outside senders
	// Known counts those of them that still have an owner or, from LostBy, an owner in the
	// directory.
	Known int
}

func (l *Lost) add(known bool) {
	l.Addresses++
	if known {
		l.Known++
	}
}

// LostSince counts, for each of some canonical domains, the addresses that were lost between two
// times and are still lost. Passes of all directories count, except approvals.
func (s *Store) LostSince(after, now time.Time, domains []string) (map[string]Lost, error) {
	lost, wanted := map[string]Lost{}, map[string]bool{}
	for _, domain := range domains {
		wanted[domain] = true
	}
	if len(wanted) == 0 {
		return lost, nil
	}
	err := s.visitLost(after, now, func(l loss) bool { return wanted[domainOf(l.address)] },
		func(a string, r *addressRecord) {
			l := lost[domainOf(a)]
			l.add(r.known())
			lost[domainOf(a)] = l
		})
	return lost, err
}

// LostBy counts the addresses that passes of a directory removed between two times and that are
// still lost. Approvals do not count.
func (s *Store) LostBy(name string, after, now time.Time) (lost Lost, err error) {
	id, ok := s.directoryID(name)
	if !ok {
		return lost, nil
	}
	err = s.visitLost(after, now, func(l loss) bool { return l.dir == id },
		func(_ string, r *addressRecord) { lost.add(r.ownedBy(id)) })
	return lost, err
}

// visitLost visits each wanted address once that passes removed between two times and that is
// lost now: it has no owner, or outside senders lost it between these times.
func (s *Store) visitLost(after, now time.Time, wanted func(loss) bool, visit func(string, *addressRecord)) error {
	if err := s.beginRead(); err != nil {
		return err
	}
	defer s.endRead()
	s.losses.Lock()
	defer s.losses.Unlock()
	passes, err := s.passesThatRemoved(after, now)
	if err != nil {
		return err
	}
	visited := map[string]bool{}
	for _, number := range passes {
		losses, err := s.lossesOf(number)
		if err != nil {
			return err
		}
		for _, l := range losses {
			if visited[l.address] || !wanted(l) {
				continue
			}
			visited[l.address] = true
			record, err := s.addressRecord(l.address)
			if err != nil {
				return err
			}
			if !record.known() || !record.internalOnlySince.IsZero() && inWindow(record.internalOnlySince, after, now) {
				visit(l.address, &record)
			}
		}
	}
	return nil
}

// passesThatRemoved lists the passes that removed addresses between two times, except approvals.
// The caller holds the lock of the cache.
func (s *Store) passesThatRemoved(after, now time.Time) ([]uint64, error) {
	if s.losses.passes == nil {
		passes := map[uint64]time.Time{}
		err := s.scan([]byte(prefixPass), false, func(kv pair) error {
			d := newDecoder(kv.value)
			if p := d.pass(); d.err == nil && p.lost() {
				passes[p.Number] = p.Ended
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.losses.passes, s.losses.byPass = passes, map[uint64][]loss{}
	}
	var between []uint64
	for number, ended := range s.losses.passes {
		if inWindow(ended, after, now) {
			between = append(between, number)
		} else if now.Sub(ended).Abs() > lossCacheTime {
			delete(s.losses.byPass, number)
		}
	}
	return between, nil
}

// lossCacheTime is how long the addresses that a pass removed stay in memory at least.
const lossCacheTime = 48 * time.Hour

// lossesOf returns the addresses that a pass removed from objects. The caller holds the lock of
// the cache.
func (s *Store) lossesOf(pass uint64) ([]loss, error) {
	if losses, cached := s.losses.byPass[pass]; cached {
		return losses, nil
	}
	var losses []loss
	prefix := journalKey(pass, 0)[:len(prefixJournal)+8]
	err := s.scan(prefix, false, func(kv pair) error {
		r, err := decodeJournal(kv.value)
		if err != nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		if !r.added {
			losses = append(losses, loss{r.dir, r.address})
		}
		return nil
	})
	if err == nil {
		s.losses.byPass[pass] = losses
	}
	return losses, err
}
