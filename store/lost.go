package store

import (
	"fmt"
	"sync"
	"time"
)

// lossCache holds the addresses that recent passes took from objects, by pass. A pass
// that has ended changes no row of its journal, so that each is read once.
type lossCache struct {
	sync.Mutex
	byPass map[uint64][]loss
}

// loss is an address that a pass took from an object of a directory.
type loss struct {
	dir     dirID
	address string
}

// LostSince counts, for each of some canonical domains, the addresses that lost their last
// owner between two times and have none now. Passes of all directories count, except
// approvals.
func (s *Store) LostSince(after, now time.Time, domains []string) (map[string]int, error) {
	lost, wanted := map[string]int{}, map[string]bool{}
	for _, domain := range domains {
		wanted[domain] = true
	}
	if len(wanted) == 0 {
		return lost, nil
	}
	err := s.lost(after, now, func(l loss) bool { return wanted[domainOf(l.address)] },
		func(a string) { lost[domainOf(a)]++ })
	return lost, err
}

// LostBy counts the addresses that passes of a directory took between two times and that
// have no owner now. Approvals do not count.
func (s *Store) LostBy(name string, after, now time.Time) (int, error) {
	id, ok := s.idOf(name)
	if !ok {
		return 0, nil
	}
	n := 0
	err := s.lost(after, now, func(l loss) bool { return l.dir == id }, func(string) { n++ })
	return n, err
}

// lost visits each address once that passes took between two times, that is wanted, and
// that has no owner now.
func (s *Store) lost(after, now time.Time, wanted func(loss) bool, visit func(address string)) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	passes, err := s.passesThatRemoved(after, now)
	if err != nil {
		return err
	}
	s.losses.Lock()
	defer s.losses.Unlock()
	if err := s.loadLosses(passes); err != nil {
		return err
	}
	visited := map[string]bool{}
	for _, losses := range s.losses.byPass {
		for _, l := range losses {
			if visited[l.address] || !wanted(l) {
				continue
			}
			visited[l.address] = true
			record, err := s.addressRecord(l.address)
			if err != nil {
				return err
			}
			if !record.known() {
				visit(l.address)
			}
		}
	}
	return nil
}

// passesThatRemoved lists the passes that took addresses between two times, without
// approvals.
func (s *Store) passesThatRemoved(after, now time.Time) (map[uint64]bool, error) {
	passes := map[uint64]bool{}
	err := s.scan([]byte(prefixPass), false, func(kv pair) error {
		d := newDecoder(kv.value)
		if p := d.pass(); d.err == nil && p.Removed > 0 && !p.Approved && p.Ended.After(after) && !p.Ended.After(now) {
			passes[p.Number] = true
		}
		return nil
	})
	return passes, err
}

// loadLosses makes the cache hold exactly these passes.
func (s *Store) loadLosses(passes map[uint64]bool) error {
	if s.losses.byPass == nil {
		s.losses.byPass = map[uint64][]loss{}
	}
	for number := range s.losses.byPass {
		if !passes[number] {
			delete(s.losses.byPass, number)
		}
	}
	for number := range passes {
		if _, cached := s.losses.byPass[number]; cached {
			continue
		}
		losses, err := s.lossesOf(number)
		if err != nil {
			return err
		}
		s.losses.byPass[number] = losses
	}
	return nil
}

// lossesOf reads the addresses that a pass took from objects.
func (s *Store) lossesOf(pass uint64) ([]loss, error) {
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
	return losses, err
}
