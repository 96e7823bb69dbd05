package store

import (
	"bytes"
	"math"
	"slices"
	"time"

	"rcpt-milter/address"
)

// A mark on an address means that a pass did not find it, or found that its object now accepts
// mail from internal senders only. A mark has no effect before a completed pass releases it. It
// is either due or waits for a time; Begin makes the marks due whose time has come, unless the pass
// settles what is held.
//
// The counts of due marks are updated with every change, and the h/ and w/ keys lead to the
// objects with marks. A pass that has nothing to release reads no marks, however many are held.

// Pending is what releasing the marks of a directory would take away.
type Pending struct {
	Owned   int                   // addresses that objects lose
	Last    map[string]int        // of these, addresses that would be lost, by domain: see WouldLose
	Objects int                   // objects that lose addresses
	Domains map[string]DomainLoss // what each domain would lose
}

// Addresses returns how many addresses would be lost.
func (p Pending) Addresses() int {
	n := 0
	for _, count := range p.Last {
		n += count
	}
	return n
}

// Pending returns what the marks of this pass and the held marks before it would take away. Its
// cost depends on the number of domains, not of marks.
func (p *Pass) Pending() (Pending, error) {
	if err := p.s.beginRead(); err != nil {
		return Pending{}, err
	}
	defer p.s.endRead()
	d := p.s.totals.Load().dirs[p.dir.record.id]
	pending := Pending{Owned: int(d.due), Objects: int(d.leaving), Last: make(map[string]int, d.last.len()),
		Domains: make(map[string]DomainLoss, d.dueIn.len())}
	d.last.all(func(domain string, n int64) { pending.Last[domain] = int(n) })
	d.dueIn.all(func(domain string, n int64) {
		pending.Domains[domain] = DomainLoss{Owned: int(n), Last: pending.Last[domain]}
	})
	return pending, nil
}

// owned counts the addresses that are due, or of an approval those that it would take away.
func (p *Pass) owned() (int, error) {
	if !p.info.Approved {
		return int(p.s.totals.Load().dirs[p.dir.record.id].due), nil
	}
	owned, id := 0, p.dir.record.id
	seen := map[GUID]bool{}
	err := p.s.newest().marked(id, markDue, p.dir.firstDue, p.upTo, func(guid GUID) error {
		if seen[guid] {
			return nil
		}
		seen[guid] = true
		stored, err := p.s.object(id, guid)
		if err != nil {
			return err
		}
		_, gone := release(stored, p.goes)
		owned += len(gone)
		return nil
	})
	return owned, err
}

// heldAfter reports whether a pass after the one with this number held removals.
func (p *Pass) heldAfter(number uint64) (found bool, err error) {
	if number == math.MaxUint64 {
		return false, nil
	}
	held := func(a ownedRecord) bool { return a.mark.pass > number && p.dir.record.holds(a) }
	err = p.s.newest().marked(p.dir.record.id, markDue, number+1, math.MaxUint64, func(guid GUID) error {
		stored, err := p.s.object(p.dir.record.id, guid)
		if found = slices.ContainsFunc(stored.addresses, held); err == nil && found {
			err = errStopScan
		}
		return err
	})
	return found, ignoreStop(err)
}

// HasNewMarks reports whether a mark is due that this pass made for an address that was not
// marked.
func (p *Pass) HasNewMarks() (found bool, err error) {
	err = p.s.newest().marked(p.dir.record.id, markDue, p.info.Number, math.MaxUint64, func(GUID) error {
		found = true
		return errStopScan
	})
	return found, ignoreStop(err)
}

// WouldLose reports whether releasing the marks of the directory would lose a known address: no
// owner would be left or, if the address is open to outside senders, no open owner.
func (p *Pass) WouldLose(a address.Address) (bool, error) {
	record, err := p.s.addressRecord(a.String())
	if err != nil {
		return false, err
	}
	dir, leaving := record.lostWith()
	return leaving && dir == p.dir.record.id, nil
}

// setMarks changes the h/ and w/ keys to match the marks that an object has now.
func (u *unit) setMarks(dir dirID, guid GUID, before, after *objectRecord) {
	was, is := before.markKeys(dir, guid), after.markKeys(dir, guid)
	for key := range was {
		if !is[key] {
			u.delete([]byte(key))
		}
	}
	for key := range is {
		if !was[key] {
			u.set([]byte(key), newEncoder())
		}
	}
}

// markKeys returns the h/ and w/ keys of an object. Nil means that it has no marks.
func (r *objectRecord) markKeys(dir dirID, guid GUID) map[string]bool {
	var keys map[string]bool
	for i := range r.addresses {
		a := &r.addresses[i]
		if a.mark.isZero() {
			continue
		}
		if keys == nil {
			keys = map[string]bool{}
		}
		state := markDue
		if !a.due() {
			state = markWaiting
			keys[string(waitingKey(dir, a.notBefore, guid))] = true
		}
		keys[string(markedKey(dir, state, a.mark.pass, guid))] = true
	}
	return keys
}

// marked visits the objects of a directory that have marks of passes in a range, in the order of
// passes. visit may change what has been visited.
func (r reader) marked(dir dirID, state markState, first, last uint64, visit func(GUID) error) error {
	if first > last {
		return nil
	}
	return r.keysBetween(markedPrefix(dir, state), markedKey(dir, state, first, GUID{}),
		func(key []byte) bool { return bytes.Compare(key, markedKey(dir, state, last, lastGUID)) <= 0 },
		func(key []byte) error { return visit(guidOf(key)) })
}

// lastGUID sorts after all others.
var lastGUID = GUID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// keysBetween visits the keys under a prefix, starting with from, until wanted returns false.
func (r reader) keysBetween(prefix, from []byte, wanted func(key []byte) bool, visit func(key []byte) error) error {
	for {
		chunk, err := r.readChunk(prefix, from, true)
		if err != nil {
			return err
		}
		for _, p := range chunk {
			if !wanted(p.key) {
				return nil
			}
			if err := visit(p.key); err != nil {
				return err
			}
		}
		if len(chunk) < scanChunk {
			return nil
		}
		from = append(chunk[len(chunk)-1].key, 0)
	}
}

// prepareMarks prepares the marks for a pass. It clears the marks of passes after the last
// committed one, limits every wait to the lag from now, and makes the marks due whose time has
// come. A pass that settles what is held does neither of the last two.
func (p *Pass) prepareMarks() error {
	id := p.dir.record.id
	counts := p.s.totals.Load().dirs[id]
	if counts.marked == 0 {
		return nil
	}
	last := p.dir.record.lastPass()
	var found []GUID
	collect := func(guid GUID) error { found = append(found, guid); return nil }
	for _, state := range []markState{markDue, markWaiting} {
		if err := p.s.newest().marked(id, state, last+1, math.MaxUint64, collect); err != nil {
			return err
		}
	}
	latest, ripens := p.latest(), counts.waiting > 0 && !p.from.settlesHeld
	if ripens {
		if err := p.waiting(latest, collect); err != nil {
			return err
		}
	}
	err := p.changeMarks(found, func(stored objectRecord) objectRecord {
		next := unmark(stored, last, latest)
		if ripens {
			next = makeDue(next, p.now())
		}
		return next
	})
	if err == nil && ripens {
		p.dir.firstWaiting = p.now()
	}
	return err
}

// makeDueAtStart makes the marks due whose time had come when the pass began. Begin does that
// for every pass that judges, but an earlier version decided passes without it and judged the marks
// by their time.
func (p *Pass) makeDueAtStart() error {
	if p.info.Approved || p.s.totals.Load().dirs[p.dir.record.id].waiting == 0 {
		return nil
	}
	var found []GUID
	if err := p.waiting(time.Time{}, func(guid GUID) error { found = append(found, guid); return nil }); err != nil {
		return err
	}
	return p.changeMarks(found, func(stored objectRecord) objectRecord { return makeDue(stored, p.now()) })
}

// latest returns the time until which a mark may wait. Zero means no limit.
func (p *Pass) latest() time.Time {
	if p.lag <= 0 {
		return time.Time{}
	}
	return p.now().Add(p.lag)
}

// noteMarks lowers the positions from which marks are searched to those of an object's marks.
func (d *directory) noteMarks(r *objectRecord) {
	for i := range r.addresses {
		switch a := &r.addresses[i]; {
		case a.mark.isZero():
		case a.due():
			d.firstDue = min(d.firstDue, a.mark.pass)
		case a.notBefore.Before(d.firstWaiting):
			d.firstWaiting = a.notBefore
		}
	}
}

// noteNoneDue raises the position from which due marks are searched if no mark is due.
func (p *Pass) noteNoneDue() {
	if p.s.totals.Load().dirs[p.dir.record.id].due == 0 {
		p.dir.firstDue = p.info.Number
	}
}

// waiting visits the objects with marks whose time has come and those with marks that wait
// beyond latest. A zero latest means no limit.
func (p *Pass) waiting(latest time.Time, visit func(GUID) error) error {
	id := p.dir.record.id
	prefix := dirKey(prefixWaiting, id)
	visitKey := func(key []byte) error { return visit(guidOf(key)) }
	ripe := waitingKey(id, p.now(), lastGUID)
	err := p.s.newest().keysBetween(prefix, waitingKey(id, p.dir.firstWaiting, GUID{}),
		func(key []byte) bool { return bytes.Compare(key, ripe) <= 0 }, visitKey)
	if err != nil || latest.IsZero() {
		return err
	}
	later := append(waitingKey(id, latest, lastGUID), 0)
	return p.s.newest().keysBetween(prefix, later, func([]byte) bool { return true }, visitKey)
}

// makeDue makes the marks due whose time has come. It does not change the record in place.
func makeDue(r objectRecord, now time.Time) objectRecord {
	ripe := func(a ownedRecord) bool { return !a.mark.isZero() && !a.notBefore.IsZero() && !a.notBefore.After(now) }
	if !slices.ContainsFunc(r.addresses, ripe) {
		return r
	}
	r.addresses = slices.Clone(r.addresses)
	for i, a := range r.addresses {
		if ripe(a) {
			r.addresses[i].notBefore = time.Time{}
		}
	}
	return r
}

// clearHeld clears the marks that are held. It returns how many objects had some.
func (p *Pass) clearHeld() (objects int, err error) {
	var found []GUID
	err = p.s.newest().marked(p.dir.record.id, markDue, p.dir.firstDue, math.MaxUint64, func(guid GUID) error {
		found = append(found, guid)
		return nil
	})
	if err != nil {
		return 0, err
	}
	err = p.changeMarks(found, func(stored objectRecord) objectRecord {
		if !slices.ContainsFunc(stored.addresses, p.dir.record.holds) {
			return stored
		}
		objects++
		stored.addresses = slices.Clone(stored.addresses)
		for i, a := range stored.addresses {
			if p.dir.record.holds(a) {
				stored.addresses[i] = a.unmarked()
			}
		}
		return stored
	})
	if err == nil {
		p.noteNoneDue()
	}
	return objects, err
}

// clearOtherRules clears the marks that were made under other rules than those of the pass. It is
// for an object that the pass cannot see: nothing shows that the present rules omit its addresses.
// After a full pass, every mark is one of its rules.
func (p *Pass) clearOtherRules(t *tx, guid GUID) error {
	stored, err := t.object(p.dir.record.id, guid)
	if err != nil {
		return err
	}
	next := stored
	next.addresses = slices.Clone(stored.addresses)
	for i, a := range next.addresses {
		if !a.mark.isZero() && a.rules != p.judge.rules {
			next.addresses[i] = a.unmarked()
		}
	}
	if next.equal(&stored) {
		return nil
	}
	changes, err := p.ownerChanges(t, guid, &stored, &next, false)
	if err != nil {
		return err
	}
	return p.rewriteChanges(t, guid, &stored, &next, changes, &unit{})
}

// markedObjects lists the objects that have marks, sorted by GUID.
func (r reader) markedObjects(dir dirID) ([]GUID, error) {
	var found []GUID
	if r.s.older { // its h/ keys have format 1
		err := r.records(dirKey(prefixObject, dir), func(_ dirID, guid GUID, record objectRecord) error {
			if record.marked() {
				found = append(found, guid)
			}
			return nil
		})
		return found, err
	}
	collect := func(guid GUID) error { found = append(found, guid); return nil }
	for _, state := range []markState{markDue, markWaiting} {
		if err := r.marked(dir, state, 0, math.MaxUint64, collect); err != nil {
			return nil, err
		}
	}
	return distinctGUIDs(found), nil
}

// distinctGUIDs sorts a list and drops duplicates.
func distinctGUIDs(list []GUID) []GUID {
	slices.SortFunc(list, func(a, b GUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}

// changeMarks rewrites objects with changed marks.
func (p *Pass) changeMarks(guids []GUID, change func(objectRecord) objectRecord) error {
	return writeInChunks(p.s, distinctGUIDs(guids), func(t *tx, guid GUID) error {
		stored, err := t.object(p.dir.record.id, guid)
		if err != nil {
			return err
		}
		next := change(stored)
		if next.equal(&stored) {
			return nil
		}
		return p.rewrite(t, guid, &stored, &next)
	})
}
