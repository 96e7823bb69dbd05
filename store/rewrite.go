package store

import (
	"slices"
	"time"
)

// ownerChange is a change of an a/ record that follows from a change of an object's record.
type ownerChange struct {
	address       string
	before, after *ownedRecord  // in the object's record; nil means not there
	stored, next  addressRecord // the a/ record
}

// rewrite replaces the record of an object and everything that follows from it: lookups,
// journal, marks and counts. That is one unit, or several if a transaction cannot hold it. After
// each of several units the object has some of the changes and is sound.
func (p *Pass) rewrite(t *tx, guid GUID, before, after *objectRecord) error {
	changes, err := p.ownerChanges(t, guid, before, after, false)
	if err != nil {
		return err
	}
	return p.rewriteChanges(t, guid, before, after, changes, nil)
}

// rewriteChanges does the same with changes that ownerChanges has listed. A non-nil extra has
// further entries that the pass read of the object, and the number of the pass is used up. Nil
// means that the pass read nothing of the object.
func (p *Pass) rewriteChanges(t *tx, guid GUID, before, after *objectRecord, changes []ownerChange, extra *unit,
) error {
	inline := p.s.config.inline
	from, last := *before, after.arranged(inline)
	changes = withParts(before, &last, changes)
	for n := len(changes); ; {
		to := last
		if n < len(changes) {
			to = withoutChanges(&from, after, changes[n:]).arranged(inline)
		}
		row := p.seq
		u, err := p.objectUnit(t, guid, &from, &to, changes[:n])
		if err != nil {
			return err
		}
		if extra != nil {
			p.claimNumber(t, u)
			u.entries, u.bytes = append(u.entries, extra.entries...), u.bytes+extra.bytes
		}
		if n > 1 && !t.fitsAlone(u) {
			p.seq = row
			n /= 2
			continue
		}
		if err := t.add(u); err != nil {
			return err
		}
		if n == len(changes) {
			return nil
		}
		if extra != nil {
			extra = &unit{}
		}
		from, changes = to, changes[n:]
		n = min(2*n, len(changes))
	}
}

// withoutChanges returns the record after a change, except for the owner changes in left.
func withoutChanges(before, after *objectRecord, left []ownerChange) objectRecord {
	late := make(map[string]*ownedRecord, len(left))
	for _, c := range left {
		late[c.address] = c.before
	}
	next := *after
	next.addresses = nil
	for _, a := range after.addresses {
		if was, ok := late[a.address]; !ok {
			next.addresses = append(next.addresses, a)
		} else if was != nil {
			next.addresses = append(next.addresses, *was)
		}
	}
	for _, c := range left {
		if c.after == nil {
			next.addresses = append(next.addresses, *c.before)
		}
	}
	return next
}

// ownerChanges lists the changes of a/ records. With all, it also reads the a/ records that
// should not change, and lists those that differ from the object's record.
func (p *Pass) ownerChanges(t *tx, guid GUID, before, after *objectRecord, all bool) ([]ownerChange, error) {
	old := make(map[string]*ownedRecord, len(before.addresses))
	for i := range before.addresses {
		old[before.addresses[i].address] = &before.addresses[i]
	}
	var changes []ownerChange
	for i := range after.addresses {
		c := ownerChange{address: after.addresses[i].address, after: &after.addresses[i]}
		c.before = old[c.address]
		delete(old, c.address)
		same := c.before != nil && c.before.flags() == c.after.flags()
		if same && !all {
			continue
		}
		if err := p.readOwner(t, guid, &c); err != nil {
			return nil, err
		}
		if flags, there := c.stored.owner(p.dir.record.id, guid); !same || !there || flags != c.after.flags() {
			changes = append(changes, c)
		}
	}
	for i := range before.addresses {
		c := ownerChange{address: before.addresses[i].address, before: &before.addresses[i]}
		if old[c.address] == nil {
			continue
		}
		if err := p.readOwner(t, guid, &c); err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// readOwner reads the a/ record and computes the changed one.
func (p *Pass) readOwner(t *tx, guid GUID, c *ownerChange) (err error) {
	if c.stored, err = t.address(c.address); err != nil {
		return err
	}
	c.next = c.stored
	c.next.owners = slices.Clone(c.stored.owners)
	if c.after != nil {
		flags := c.after.flags()
		if was, there := c.stored.owner(p.dir.record.id, guid); there && !was.internalOnly && !c.closes() {
			flags.internalOnly = false // see keepOpen
		}
		c.next.set(owner{dir: p.dir.record.id, guid: guid, ownerFlags: flags})
	} else if c.next.remove(p.dir.record.id, guid) && !c.next.known() {
		c.next.removed, c.next.pass = p.effectiveAt(), p.info.Number
	}
	c.next.internalOnlySince = c.internalOnlySince(p.effectiveAt())
	return nil
}

// closes reports whether a released mark makes the address internal-only. Nothing else may take
// it from outside senders.
func (c *ownerChange) closes() bool {
	return c.before != nil && !c.before.internalOnly && c.after.internalOnly
}

// effectiveAt returns when a loss takes effect: at the end of the pass that decided it. A pass
// loses nothing before that.
func (p *Pass) effectiveAt() time.Time {
	if p.info.Ended.IsZero() {
		return p.now()
	}
	return p.info.Ended
}

// internalOnlySince returns when outside senders lost the address, if the change takes effect at
// a time. If an address was removed and comes back internal-only, they lost it when it was
// removed.
func (c *ownerChange) internalOnlySince(at time.Time) time.Time {
	switch {
	case !c.next.internalOnly():
		return time.Time{}
	case c.stored.internalOnly():
		return c.stored.internalOnlySince
	case c.stored.known():
		return at
	}
	return c.stored.removed
}

// objectUnit collects everything that belongs to one change of an object.
func (p *Pass) objectUnit(t *tx, guid GUID, before, after *objectRecord, changes []ownerChange) (*unit, error) {
	u := &unit{}
	var change ownershipChange
	id := p.dir.record.id
	for i := range changes {
		c := &changes[i]
		if err := p.changeOwner(t, u, guid, after.dn, c); err != nil {
			return nil, err
		}
		was, there := c.stored.owner(id, guid)
		is, stays := c.next.owner(id, guid)
		change.note(c.address, was, there, is, stays)
	}
	if p.dir.feed.on && change.any() {
		if err := t.setOutbox(u, p.dir, guid, &change); err != nil {
			return nil, err
		}
	}
	u.delta.object(id, guid, before, after)
	u.setObject(id, guid, before, after)
	u.setMarks(id, guid, before, after)
	p.dir.noteMarks(after)
	return u, nil
}

func (p *Pass) changeOwner(t *tx, u *unit, guid GUID, dn string, c *ownerChange) error {
	was, there := c.stored.owner(p.dir.record.id, guid)
	is, stays := c.next.owner(p.dir.record.id, guid)
	if was == is && there == stays {
		return nil // an earlier version wrote half an object
	}
	u.delta.address(c.address, &c.stored, &c.next)
	u.set(addressKey(c.address), c.next.encode())
	row := journalRecord{dir: p.dir.record.id, guid: guid, dn: dn, address: c.address}
	switch {
	case c.before == nil && !there:
		// The row has the time when the index learned the address, not when the pass began. A
		// lookup of the past compares with it.
		learned := c.after.learned
		row.time, row.added, row.origin, row.usn = learned.time, true, learned.origin, learned.usn
	case !stays:
		row.time, row.origin, row.usn = p.info.Ended, c.before.mark.origin, c.before.mark.usn
		row.learned, row.internalOnly = c.before.learned.time, c.before.internalOnly
	case there && !was.internalOnly && is.internalOnly:
		row.time, row.origin, row.usn = p.info.Ended, c.before.mark.origin, c.before.mark.usn
		row.learned, row.outsideOnly = c.before.learned.time, true
	case there && was.internalOnly && !is.internalOnly:
		source := c.after.lastSource
		row.time, row.added, row.origin, row.usn, row.outsideOnly = p.now(), true, source.origin, source.usn, true
	default:
		return nil
	}
	return p.journal(t, u, row)
}
