package store

import (
	"fmt"
	"math"
	"slices"
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
	NotBefore time.Time // it is not released before; zero: at any time
	Last      bool      // releasing all that waits in its directory leaves nobody who has it
}

// Held visits the removals of a directory that completed passes left waiting, those of
// one object after those of another. An error of visit ends it and is returned. Close
// waits for it.
func (s *Store) Held(name string, visit func(Held) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.state.Lock()
	d := s.state.dirs[name]
	var last uint64
	if d != nil {
		last = d.record.lastPass()
	}
	s.state.Unlock()
	if d == nil {
		return nil
	}
	return s.scan(dirKey(prefixMarked, d.record.id), true, func(kv pair) error {
		guid := guidOf(kv.key)
		record, err := s.object(d.record.id, guid)
		if err != nil {
			return err
		}
		for _, a := range record.addresses {
			if a.gone.isZero() || a.gone.pass > last { // that of a pass under way
				continue
			}
			alone, err := s.leaving(a.address, d.record.id, func(ownedRecord) bool { return true })
			if err != nil {
				return err
			}
			err = visit(Held{Address: parse(a.address), GUID: guid, DN: record.dn, Class: record.class,
				Pass: a.gone.pass, Since: a.gone.time, NotBefore: a.notBefore, Last: alone})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// leaving reports whether an address is known and all its owners are objects of a
// directory in which it is marked as gone, by marks that count.
func (s *Store) leaving(a string, dir dirID, counts func(ownedRecord) bool) (bool, error) {
	record, err := s.addressRecord(a)
	if err != nil || !record.known() {
		return false, err
	}
	for _, o := range record.owners {
		if o.dir != dir {
			return false, nil
		}
		object, err := s.object(dir, o.guid)
		if err != nil {
			return false, err
		}
		stays := func(owned ownedRecord) bool {
			return owned.address == a && (owned.gone.isZero() || !counts(owned))
		}
		if slices.ContainsFunc(object.addresses, stays) {
			return false, nil
		}
	}
	return true, nil
}

// object reads what is stored of an object; the zero record: nothing.
func (s *Store) object(dir dirID, guid GUID) (objectRecord, error) {
	key := objectKey(dir, guid)
	value, err := s.get(key)
	if err != nil {
		return objectRecord{}, err
	}
	record, err := decodeObject(value)
	if err != nil {
		return record, s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return record, nil
}

// Approve releases what passes up to a number held back. What later ones did stays held,
// and the next pass judges it again. It is a pass of its own that reads nothing, and leaves the cursor where
// it is.
func (s *Store) Approve(name string, upTo uint64, at time.Time) (PassInfo, error) {
	p, err := s.Begin(name, Incremental, s.lastOrigin(name, at))
	if err != nil {
		return PassInfo{}, err
	}
	defer p.Abort()
	if p.upTo, p.later = upTo, p.dir.record.hold; p.later != "" {
		all, err := p.pendingUpTo(math.MaxUint64)
		if err != nil {
			return PassInfo{}, err
		}
		some, err := p.Pending()
		if err != nil {
			return PassInfo{}, err
		}
		if some.Owned == all.Owned {
			p.later = ""
		}
	}
	p.info.Approved, p.info.Ended = true, p.info.Started
	var info PassInfo
	err = s.Decide(func() (err error) {
		info, err = p.conclude(redoRecord{cursor: p.dir.cursor.cursor, fingerprint: p.dir.record.fingerprint, upTo: upTo, later: p.later})
		return err
	})
	return info, err
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
