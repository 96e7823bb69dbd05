package store

import (
	"time"
)

// migrate converts a store of format 1 to the present format. Everything that format 1 lacks
// follows from the records of objects and addresses, so a conversion that a crash interrupts can
// start again. Until it is complete, m/format marks it as unfinished, and an older version does
// not open the store. A store that is open read-only is counted in memory and not changed.
func (s *Store) migrate() error {
	if s.config.ReadOnly {
		return s.recountTotals()
	}
	began := time.Now()
	for _, step := range []func(*tx) error{beginMigration, dropDerived, deriveMarks, s.moveOrigins} {
		if err := s.write(step); err != nil {
			return err
		}
	}
	if err := s.recountTotals(); err != nil {
		return err
	}
	if err := s.write(finishMigration); err != nil {
		return err
	}
	s.older = false
	s.config.Log.Info("store converted to a newer format", "format", formatVersion,
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}

// recountTotals replaces the totals in memory by a count of the records.
func (s *Store) recountTotals() error {
	counted, err := s.newest().count()
	if err != nil {
		return err
	}
	kept := s.totals.Load()
	counted.nextPass, counted.nextDir = kept.nextPass, kept.nextDir
	s.totals.Store(&counted)
	return nil
}

func beginMigration(t *tx) error {
	e := formatValue()
	e.bool(true) // unfinished
	return t.set([]byte(keyFormat), e)
}

// formatValue returns the value of m/format in a store of the present format.
func formatValue() encoder {
	e := newEncoder()
	e.uint(formatVersion)
	return e
}

// dropDerived deletes what the next steps write, in this format and in the previous one.
func dropDerived(t *tx) error {
	for _, prefix := range []string{prefixMarked, prefixWaiting, prefixDomain, prefixCounts, prefixLeaving} {
		err := t.s.scan([]byte(prefix), true, func(kv pair) error { return t.delete(kv.key) })
		if err != nil {
			return err
		}
	}
	return nil
}

// deriveMarks writes the keys for the marks of objects, and the flags that follow from them in
// the records of addresses.
func deriveMarks(t *tx) error {
	return t.s.newest().records([]byte(prefixObject), func(dir dirID, guid GUID, r objectRecord) error {
		if !r.marked() {
			return nil
		}
		var u unit
		u.setMarks(dir, guid, &objectRecord{}, &r)
		for _, e := range u.entries {
			if err := t.set(e.key, e.value); err != nil {
				return err
			}
		}
		for _, a := range r.addresses {
			if err := deriveFlags(t, dir, guid, &a); err != nil {
				return err
			}
		}
		return nil
	})
}

func deriveFlags(t *tx, dir dirID, guid GUID, a *ownedRecord) error {
	record, err := t.address(a.address)
	if err != nil {
		return err
	}
	flags, there := record.owner(dir, guid)
	if !there || flags == a.flags() { // a full pass adds a missing owner
		return nil
	}
	marked := a.flags()
	flags.leaving, flags.becomesInternalOnly = marked.leaving, marked.becomesInternalOnly
	record.set(owner{dir: dir, guid: guid, ownerFlags: flags})
	return t.set(addressKey(a.address), record.encode())
}

// moveOrigins gives each database that a directory was read from its own key.
func (s *Store) moveOrigins(t *tx) error {
	for name, d := range s.state.dirs {
		u := &unit{}
		for i, o := range d.record.origins {
			u.set(originKey(d.record.id, originID(i+1)), o.encode())
		}
		u.setDirectory(name, d, d.record)
		if err := t.add(u); err != nil {
			return err
		}
	}
	return nil
}

// finishMigration writes the totals, then marks the conversion as complete.
func finishMigration(t *tx) error {
	counted := *t.s.totals.Load()
	all := totalsDelta{dirs: map[dirID]*dirDelta{}, domains: counted.domains.clone()}
	for id, d := range counted.dirs {
		all.dirs[id] = &dirDelta{d.dirCounts, d.dueIn.clone(), d.last.clone()}
	}
	err := all.entries(&totals{}, &counted, t.set)
	if err != nil {
		return err
	}
	return t.set([]byte(keyFormat), formatValue())
}
