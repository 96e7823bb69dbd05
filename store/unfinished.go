package store

import (
	"math"
	"slices"
	"time"
)

// What a pass has read counts even if the pass does not end: see noteUnfinished. Most passes write
// nothing before they end, so this is not written as it is read. Instead, a process marks a
// database once, before it reads it for the first time, and writes the sightings when it closes
// the store. A process that ends in another way may have read until then.

// markReading stores the database that is about to be read, unless it is stored and marked.
func (p *Pass) markReading(record directoryRecord, id originID, added bool) error {
	mark := p.info.Controller != "" && !record.origins[id-1].reading
	if !added && !mark {
		return nil
	}
	record.origins = slices.Clone(record.origins)
	record.origins[id-1].reading = mark
	return p.s.write(func(t *tx) error {
		u := &unit{}
		u.set(originKey(record.id, id), record.origins[id-1].encode())
		u.afterCommit(func() { p.dir.record.origins = record.origins })
		return t.add(u)
	})
}

// saveUnfinished writes the sightings of passes that did not end, and removes the marks. The mark
// stays while a pass is open.
func (s *Store) saveUnfinished() error {
	s.state.Lock()
	entries := &unit{}
	for _, d := range s.state.dirs {
		for i, o := range d.record.origins {
			if !o.reading || d.busy {
				continue
			}
			seen := d.unfinished[originID(i+1)]
			o.reading, o.unfinished, o.unfinishedUSN = false, seen.read, seen.usn
			entries.set(originKey(d.record.id, originID(i+1)), o.encode())
		}
	}
	s.state.Unlock()
	if len(entries.entries) == 0 {
		return nil
	}
	return s.write(func(t *tx) error { return t.add(entries) })
}

// loadUnfinished restores the sightings. If the previous process did not write them, it may have
// read each database that it marked until now.
func (s *Store) loadUnfinished() error {
	now := s.config.Now().UTC().Truncate(time.Microsecond)
	marked := &unit{}
	for _, d := range s.state.dirs {
		for i := range d.record.origins {
			o, id := &d.record.origins[i], originID(i+1)
			if o.reading {
				o.reading, o.unfinished, o.unfinishedUSN = false, now, math.MaxUint64
				marked.set(originKey(d.record.id, id), o.encode())
			}
			if o.unfinished.IsZero() {
				continue
			}
			if d.unfinished == nil {
				d.unfinished = map[originID]sighting{}
			}
			d.unfinished[id] = sighting{id, o.database, o.unfinished, o.unfinishedUSN, 0}
		}
	}
	if s.readOnly || len(marked.entries) == 0 {
		return nil
	}
	return s.write(func(t *tx) error { return t.add(marked) })
}
