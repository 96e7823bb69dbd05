package store

import (
	"fmt"
	"time"

	"rcpt-milter/address"
)

// Held is one address whose removal waits.
type Held struct {
	Address   address.Address
	GUID      GUID
	DN        string
	Class     string
	Pass      uint64    // that did not find it any more
	Since     time.Time // when that was
	NotBefore time.Time // it may go by itself from then on; zero: it waits for approval
	Last      bool      // nobody else has the address
}

// Held lists the removals of a directory that completed passes left waiting.
func (s *Store) Held(name string) ([]Held, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.state.Lock()
	d := s.state.dirs[name]
	s.state.Unlock()
	if d == nil {
		return nil, nil
	}
	var list []Held
	err := s.scan(dirKey(prefixMarked, d.record.id), true, func(kv pair) error {
		guid := guidOf(kv.key)
		value, err := s.get(objectKey(d.record.id, guid))
		if err != nil {
			return err
		}
		record, err := decodeObject(value)
		if err != nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		for _, a := range record.addresses {
			if a.gone.isZero() {
				continue
			}
			owners, err := s.addressRecord(a.address)
			if err != nil {
				return err
			}
			list = append(list, Held{Address: parse(a.address), GUID: guid, DN: record.dn, Class: record.class,
				Pass: a.gone.pass, Since: a.gone.time, NotBefore: a.notBefore, Last: len(owners.owners) <= 1})
		}
		return nil
	})
	return list, err
}

// Approve releases what is held back. It is a pass of its own that reads nothing, and
// leaves the cursor where it is.
func (s *Store) Approve(name string, at time.Time) (PassInfo, error) {
	p, err := s.Begin(name, Incremental, s.lastOrigin(name, at))
	if err != nil {
		return PassInfo{}, err
	}
	defer p.Abort()
	p.info.Approved, p.info.Ended = true, p.info.Started
	return p.conclude(redoRecord{cursor: p.dir.cursor.cursor, fingerprint: p.dir.record.fingerprint})
}

// Discard forgets what is held back: the addresses stay, until a full pass misses them
// again. It reports how many objects it was about.
func (s *Store) Discard(name string, at time.Time) (int, error) {
	p, err := s.Begin(name, Incremental, s.lastOrigin(name, at))
	if err != nil {
		return 0, err
	}
	defer p.Abort()
	marked := s.Directory(name).Marked
	if err := p.clearMarks(0); err != nil {
		return 0, err
	}
	record := p.dir.record
	record.hold = ""
	err = s.write(func(t *tx) error {
		return t.set([]byte(prefixDirectory+name), record.encode())
	})
	if err != nil {
		return 0, err
	}
	s.state.Lock()
	defer s.state.Unlock()
	p.dir.record = record
	return marked, nil
}

// lastOrigin is the database that a directory was last read from.
func (s *Store) lastOrigin(name string, at time.Time) Origin {
	s.state.Lock()
	defer s.state.Unlock()
	o := Origin{Started: at}
	if d := s.state.dirs[name]; d != nil && len(d.record.origins) > 0 {
		last := d.record.origins[len(d.record.origins)-1]
		o.Controller, o.Database = last.controller, last.database
	}
	return o
}

// RemovedSince counts the addresses that passes took from objects of a directory after
// a time, but for removals that somebody approved.
func (s *Store) RemovedSince(name string, after time.Time) (int, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	removed := 0
	err := s.scan([]byte(prefixPass), false, func(kv pair) error {
		d := newDecoder(kv.value)
		if p := d.pass(); d.err == nil && p.Directory == name && !p.Approved && p.Ended.After(after) {
			removed += p.Removed
		}
		return nil
	})
	return removed, err
}
