package store

import (
	"maps"
	"slices"
)

// Times in the store are local. After a clock change, earlier times cannot be compared with the present: a wait may
// seem to be over, or a deletion may seem later than a sighting. Every recorded event is therefore treated as if it
// happened now. That only makes waits longer.

// checkClock asks the caller whether the clock was set since the cursor was stored. If so, it restarts all waits of
// the directory and stores the new cursor.
func (p *Pass) checkClock() error {
	if p.from.ClockSet == nil {
		return nil
	}
	cursor := p.dir.cursor
	if cursor.cursor = p.from.ClockSet(cursor.cursor); cursor.cursor == nil {
		return nil
	}
	p.s.config.Log.Warn("the local clock or that of the domain controller was set; removals that wait for replication "+
		"wait anew", "directory", p.info.Directory, "controller", p.info.Controller)
	if err := p.restartWaits(); err != nil {
		return err
	}
	return p.s.write(func(t *tx) error {
		u := &unit{}
		p.seeAllNow(u)
		p.doubtFromNow(u)
		u.set(dirKey(prefixCursor, p.dir.record.id), cursor.encode())
		u.afterCommit(func() { p.dir.cursor = cursor })
		return t.add(u)
	})
}

// restartWaits redates all marks to now; waiting marks wait for the longest lag.
func (p *Pass) restartWaits() error {
	id := p.dir.record.id
	if p.s.totals.Load().dirs[id].marked == 0 {
		return nil
	}
	found, err := p.s.newest().markedObjects(id)
	if err != nil {
		return err
	}
	now, until := p.now(), p.now().Add(p.lag)
	return p.changeMarks(found, func(r objectRecord) objectRecord {
		r.addresses = slices.Clone(r.addresses)
		for i := range r.addresses {
			a := &r.addresses[i]
			if a.mark.isZero() {
				continue
			}
			if a.mark.time = now; !a.seen.IsZero() {
				a.seen = now
			}
			if !a.due() {
				a.notBefore = until
			}
		}
		return r
	})
}

// seeAllNow records in the unit that every database has been read up to now. That covers the stamps of addresses: a
// database that showed one was read then, or later.
func (p *Pass) seeAllNow(u *unit) {
	p.s.state.Lock()
	defer p.s.state.Unlock()
	id, now := p.dir.record.id, p.now()
	origins, unfinished := slices.Clone(p.dir.record.origins), maps.Clone(p.dir.unfinished)
	for i := range origins {
		o := &origins[i]
		if o.read.IsZero() && o.unfinished.IsZero() {
			continue
		}
		if !o.read.IsZero() {
			o.read = now
		}
		if !o.unfinished.IsZero() {
			o.unfinished = now
		}
		u.set(originKey(id, originID(i+1)), o.encode())
	}
	for origin, seen := range unfinished {
		seen.read = now
		unfinished[origin] = seen
	}
	u.afterCommit(func() { p.dir.record.origins, p.dir.unfinished = origins, unfinished })
}

// doubtFromNow records in the unit that the replication of what the lost commits had read starts now.
func (p *Pass) doubtFromNow(u *unit) {
	name := p.info.Directory
	p.s.state.Lock()
	d, doubted := p.s.state.doubts[name]
	p.s.state.Unlock()
	if !doubted {
		return
	}
	d.since, d.reads = p.now(), slices.Clone(d.reads)
	for i := range d.reads {
		d.reads[i].at = d.since
	}
	p.s.setDoubt(u, name, &d)
}
