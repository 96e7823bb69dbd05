package store

import (
	"errors"
	"slices"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/internal/clock"
)

// HeldRemoval is one address whose removal waits, for all senders or for outside senders.
type HeldRemoval struct {
	Address   address.Address
	GUID      GUID
	DN        string
	Class     string
	Pass      uint64    // the pass that missed it
	Since     time.Time // when that pass read the object
	NotBefore time.Time // until when it waits, or waited and no pass judged it since; zero means due
	// Last means that releasing everything that waits in the directory loses the address: no
	// owner is left or, if the address is open to outside senders, no open owner.
	Last                bool
	BecomesInternalOnly bool // the object keeps the address, for internal senders only
}

// HeldRemovals visits the removals of a directory that wait after completed passes, object by
// object. An error from visit stops it and is returned. Close waits for it.
func (s *Store) HeldRemovals(name string, visit func(HeldRemoval) error) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.done()
	d, err := v.directory(name)
	if err != nil || d.id == 0 {
		return err
	}
	marked, err := v.markedObjects(d.id)
	if err != nil {
		return err
	}
	completed := d.lastPass()
	for _, guid := range marked {
		record, err := v.object(d.id, guid)
		if err != nil {
			return err
		}
		for _, a := range record.addresses {
			if a.mark.isZero() || a.mark.pass > completed { // not held: the mark of a running pass
				continue
			}
			last, err := v.lostWith(a.address, d.id)
			if err != nil {
				return err
			}
			err = visit(HeldRemoval{Address: parse(a.address), GUID: guid, DN: record.dn, Class: record.class,
				Pass: a.mark.pass, Since: a.mark.time, NotBefore: a.notBefore, Last: last,
				BecomesInternalOnly: a.becomesInternalOnly})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// lostWith reports whether an address is known and each of its decisive owners is an object of a
// directory that has marked it, with a mark that is due or waits.
func (r reader) lostWith(a string, dir dirID) (bool, error) {
	record, err := r.addressRecord(a)
	if err != nil || !record.known() {
		return false, err
	}
	for _, o := range record.decisiveOwners() {
		if o.dir != dir {
			return false, nil
		}
		object, err := r.object(dir, o.guid)
		if err != nil {
			return false, err
		}
		stays := func(owned ownedRecord) bool { return owned.address == a && owned.stays(o.internalOnly) }
		if slices.ContainsFunc(object.addresses, stays) {
			return false, nil
		}
	}
	return true, nil
}

// ErrOtherRules means that removals were held under other rules than the present ones.
var ErrOtherRules = errors.New("the rules for recipients have changed since these removals were held; " +
	"the next full pass judges them again")

// Approve releases the held removals found by passes up to upTo. A removal whose wait has run out since
// the last pass waits for the next one. Removals of addresses that later passes did not find stay held,
// and the next pass judges them again. Two kinds of removals are released too early:
//
//   - those whose wait was ended by a pass that was aborted, and
//   - those that a pass after upTo began to hold when their wait was over.
//
// An approval is a pass of its own; it reads nothing and keeps
// the cursor. rules is the fingerprint of the present rules. If those of the last full pass differ,
// the removals say nothing about the present ones, and Approve returns ErrOtherRules.
func (s *Store) Approve(name string, upTo uint64, rules string, at time.Time) (PassInfo, error) {
	p, err := s.beginSettling(name, at)
	if err != nil {
		return PassInfo{}, err
	}
	defer p.Abort()
	if p.dir.record.fingerprint != rules {
		return PassInfo{}, ErrOtherRules
	}
	p.info.Approved, p.info.Ended = true, p.info.Started
	p.upTo = upTo
	if later, err := p.heldAfter(upTo); err != nil {
		return PassInfo{}, err
	} else if later {
		p.laterHold = p.dir.record.hold
	}
	var info PassInfo
	err = s.Decide(func() (err error) {
		info, err = p.decideAndFinish(redoRecord{cursor: p.dir.cursor.cursor, fingerprint: p.dir.record.fingerprint,
			upTo: upTo, laterHold: p.laterHold})
		return err
	})
	return info, err
}

// Discard clears what passes held back and returns how many objects had some of it. Their addresses
// stay until a full pass misses them again. Removals that wait for a time are not held; they stay.
func (s *Store) Discard(name string, at time.Time) (int, error) {
	p, err := s.beginSettling(name, at)
	if err != nil {
		return 0, err
	}
	defer p.Abort()
	kept, err := p.clearHeld()
	if err != nil {
		return 0, err
	}
	record := p.dir.record
	record.hold, record.held, record.holdEmpty = "", heldDomains{}, false
	err = s.write(func(t *tx) error {
		u := &unit{}
		u.setHeldDomains(record.id, p.dir.record.held, record.held)
		u.setDirectory(name, p.dir, record)
		return t.add(u)
	})
	if err != nil {
		return 0, err
	}
	return kept, nil
}

// beginSettling opens a pass that approves or discards what is held.
func (s *Store) beginSettling(name string, at time.Time) (*Pass, error) {
	origin := s.lastOrigin(name, at)
	origin.settlesHeld = true
	return s.Begin(name, Incremental, origin)
}

// lastOrigin returns the database that a directory was last read from.
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

// removals counts what passes removed, for the removal guard. The counts are those of the p/
// rows, with passes that ended within one minute added up.
type removals []removal

type removal struct {
	ended   time.Time // when the last of them ended
	removed int
}

// add counts a pass, unless it was an approval, or read no controller: what the pass of a directory that is no longer
// configured removes was not removed in the directory.
func (r *removals) add(p PassInfo) {
	if p.Removed == 0 || p.Approved || p.Controller == "" {
		return
	}
	if n := len(*r); n > 0 {
		last := &(*r)[n-1]
		if last.ended.Truncate(time.Minute).Equal(p.Ended.Truncate(time.Minute)) {
			last.removed += p.Removed
			if p.Ended.After(last.ended) {
				last.ended = p.Ended
			}
			return
		}
	}
	*r = append(*r, removal{p.Ended, p.Removed})
}

func (r removals) between(after, now time.Time) int {
	n := 0
	for _, one := range r {
		if inWindow(one.ended, after, now) {
			n += one.removed
		}
	}
	return n
}

// inWindow reports whether something happened in a window that ends now.
func inWindow(at, after, now time.Time) bool { return at.After(after) && clock.Believable(at, now) }

// RemovedBetween counts the addresses that passes took from objects of a directory in a
// window that ends now, without approved removals, and without those while the directory was not configured.
func (s *Store) RemovedBetween(name string, after, now time.Time) (int, error) {
	if err := s.beginRead(); err != nil {
		return 0, err
	}
	defer s.endRead()
	s.state.Lock()
	defer s.state.Unlock()
	if d := s.state.dirs[name]; d != nil {
		return d.removals.between(after, now), nil
	}
	return 0, nil
}

// loadRemovals reads what the passes of each directory removed, as far back as p/ rows reach. The rows have only the
// name of their directory, so those before its first full pass are of a dropped directory of the same name.
func (s *Store) loadRemovals() error {
	return s.scan([]byte(prefixPass), false, func(kv pair) error {
		d := newDecoder(kv.value)
		p := d.pass()
		dir := s.state.dirs[p.Directory]
		if d.err != nil || dir == nil || dir.record.full.Number == 0 {
			return nil
		}
		if p.Kind == Full && p.Ended.Equal(dir.record.first) {
			dir.removals = nil
		}
		dir.removals.add(p)
		return nil
	})
}
