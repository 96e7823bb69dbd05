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
	byPass map[uint64][]string
}

// LostSince counts, for each of some canonical domains, the addresses that lost their last
// owner between two times and have none now. Passes of all directories count, except
// approvals.
func (s *Store) LostSince(after, now time.Time, domains []string) (map[string]int, error) {
	lost := map[string]int{}
	if len(domains) == 0 {
		return lost, nil
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	passes, err := s.passesThatRemoved(after, now)
	if err != nil {
		return nil, err
	}
	s.losses.Lock()
	defer s.losses.Unlock()
	if err := s.loadLosses(passes); err != nil {
		return nil, err
	}
	wanted, counted := map[string]bool{}, map[string]bool{}
	for _, domain := range domains {
		wanted[domain] = true
	}
	for _, addresses := range s.losses.byPass {
		for _, a := range addresses {
			domain := domainOf(a)
			if counted[a] || !wanted[domain] {
				continue
			}
			counted[a] = true
			record, err := s.addressRecord(a)
			if err != nil {
				return nil, err
			}
			if !record.known() {
				lost[domain]++
			}
		}
	}
	return lost, nil
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
		s.losses.byPass = map[uint64][]string{}
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
		addresses, err := s.lossesOf(number)
		if err != nil {
			return err
		}
		s.losses.byPass[number] = addresses
	}
	return nil
}

// lossesOf reads the addresses that a pass took from objects.
func (s *Store) lossesOf(pass uint64) ([]string, error) {
	var addresses []string
	prefix := journalKey(pass, 0)[:len(prefixJournal)+8]
	err := s.scan(prefix, false, func(kv pair) error {
		r, err := decodeJournal(kv.value)
		if err != nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		if !r.added {
			addresses = append(addresses, r.address)
		}
		return nil
	})
	return addresses, err
}
