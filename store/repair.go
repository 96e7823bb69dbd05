package store

import (
	"hash/maphash"
	"slices"
)

// Lookups and the records of objects agree after every commit. An earlier version could write
// half an object: an owner without a record, or the reverse. At the end of a full pass both
// sides are compared as a whole and, if they differ, one by one.

// repairOwners makes lookups and records of the directory agree. It marks an owner without a
// record like an address that the pass did not find. The mark is judged, held and released like
// any removal.
func (p *Pass) repairOwners() error {
	agree, err := p.ownersMatchRecords()
	p.dir.ownersMatch = agree
	if err != nil || agree {
		return err
	}
	// A record that a damaged table hides is not a missing record.
	if err := p.s.verifyTables(); err != nil {
		return err
	}
	lost, err := p.s.newest().ownersWithoutRecord(p.dir.record.id)
	if err != nil {
		return err
	}
	unowned, err := p.recordsWithoutOwner()
	if err != nil {
		return err
	}
	p.s.config.Log.Warn("lookups and object records differ; repairing them",
		"directory", p.info.Directory, "owners_without_record", len(lost), "records_without_owner", len(unowned))
	var guids []GUID
	for guid := range lost {
		guids = append(guids, guid)
	}
	guids = distinctGUIDs(append(guids, unowned...))
	return writeInChunks(p.s, guids, func(t *tx, guid GUID) error { return p.repairObject(t, guid, lost[guid]) })
}

// ownersMatchRecords compares sums over all (object, address, flags) of both sides.
func (p *Pass) ownersMatchRecords() (bool, error) {
	id, seed := p.dir.record.id, maphash.MakeSeed()
	var records, owners uint64
	sum := func(guid GUID, a string, f ownerFlags) uint64 {
		return maphash.Comparable(seed, struct {
			guid    GUID
			address string
			flags   ownerFlags
		}{guid, a, f})
	}
	err := p.s.newest().records(dirKey(prefixObject, id), func(_ dirID, guid GUID, r objectRecord) error {
		for i := range r.addresses {
			records += sum(guid, r.addresses[i].address, r.addresses[i].flags())
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	err = p.s.newest().owners(id, func(a string, o owner) error {
		owners += sum(o.guid, a, o.ownerFlags)
		return nil
	})
	return records == owners, err
}

// owners visits all owners of addresses that belong to a directory.
func (r reader) owners(dir dirID, visit func(a string, o owner) error) error {
	return r.scan([]byte(prefixAddress), false, func(kv pair) error {
		record, err := decodeAddress(kv.value)
		if err != nil {
			return r.s.unreadable(string(kv.key), err)
		}
		for _, o := range record.owners {
			if o.dir != dir {
				continue
			}
			if err := visit(string(kv.key[len(prefixAddress):]), o); err != nil {
				return err
			}
		}
		return nil
	})
}

// ownersWithoutRecord lists, by object, the addresses that have the object as owner but are not
// in its record.
func (r reader) ownersWithoutRecord(dir dirID) (map[GUID][]ownedRecord, error) {
	lost := map[GUID][]ownedRecord{}
	err := r.owners(dir, func(a string, o owner) error {
		stored, err := r.object(dir, o.guid)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(stored.addresses, func(owned ownedRecord) bool { return owned.address == a }) {
			lost[o.guid] = append(lost[o.guid], ownedRecord{address: a, internalOnly: o.internalOnly})
		}
		return nil
	})
	return lost, err
}

// recordsWithoutOwner lists the objects whose records have an address that does not have them as
// owner, or has them with other flags.
func (p *Pass) recordsWithoutOwner() (unowned []GUID, err error) {
	id := p.dir.record.id
	err = p.s.newest().records(dirKey(prefixObject, id), func(_ dirID, guid GUID, stored objectRecord) error {
		for i := range stored.addresses {
			a := &stored.addresses[i]
			record, err := p.s.addressRecord(a.address)
			if err != nil {
				return err
			}
			if flags, there := record.owner(id, guid); !there || flags != a.flags() {
				unowned = append(unowned, guid)
				break
			}
		}
		return nil
	})
	return unowned, err
}

// repairObject adds to an object, with marks, the addresses that have it as owner, and makes it
// an owner of all addresses in its record. It leaves an object that changed after the pass began
// to read to a later pass, because another object may have gained what this one lost. It does the
// same with an object that the pass cannot see.
func (p *Pass) repairObject(t *tx, guid GUID, lost []ownedRecord) error {
	stored, err := t.object(p.dir.record.id, guid)
	if err != nil {
		return err
	}
	next := stored
	next.addresses = slices.Clone(stored.addresses)
	mark := func(a ownedRecord) ownedRecord { return p.repairMark(a, true) }
	if judged := p.seen.has(guid) || p.visible == nil || p.visible(stored.dn); !judged || p.unsettled[guid] {
		lost, mark = nil, nil
	}
	if _, err := p.keepOpen(t, guid, &next, mark); err != nil {
		return err
	}
	for _, a := range lost {
		next.addresses = append(next.addresses, p.repairMark(a, false))
	}
	changes, err := p.ownerChanges(t, guid, &stored, &next, true)
	if err != nil || len(changes) == 0 {
		return err
	}
	p.info.Changed++
	return p.rewriteChanges(t, guid, &stored, &next, changes, &unit{})
}

// repairMark marks an address that lookups and records disagree about. Its object may live.
func (p *Pass) repairMark(a ownedRecord, outsideOnly bool) ownedRecord {
	a.mark, a.rules = p.stamp(0), p.judge.rules
	a.becomesInternalOnly, a.undeleted = outsideOnly, true
	if p.lag > 0 { // it may have been learned from another database just now
		a.notBefore = p.now().Add(p.lag)
	}
	return a
}

// keepOpen makes the next record of an object follow the lookups: an address that they have open
// and the record has internal-only stays open. A mark closes it, which is judged, held and released
// like any removal. A nil mark leaves that to a later pass. keepOpen returns the number of new
// marks.
func (p *Pass) keepOpen(t *tx, guid GUID, next *objectRecord, mark func(ownedRecord) ownedRecord) (marked int,
	err error) {
	for i := range next.addresses {
		a := &next.addresses[i]
		if !a.internalOnly {
			continue
		}
		record, err := t.address(a.address)
		if err != nil {
			return marked, err
		}
		if flags, there := record.owner(p.dir.record.id, guid); !there || flags.internalOnly {
			continue
		}
		p.kept++
		a.internalOnly = false
		if a.mark.isZero() && mark != nil {
			*a = mark(*a)
			marked++
		}
	}
	return marked, nil
}

// closingMark returns how an object that was read closes an address; nil if it is unsettled.
func (p *Pass) closingMark(o Object) func(ownedRecord) ownedRecord {
	if o.Unsettled {
		return nil
	}
	return func(a ownedRecord) ownedRecord { return p.judgeOf(o).mark(a, o, true) }
}

// logKeptOpen logs how many addresses keepOpen found.
func (p *Pass) logKeptOpen() {
	if p.kept > 0 {
		p.s.config.Log.Warn("lookups have addresses open that object records have internal-only; judging them as "+
			"removals", "directory", p.info.Directory, "pass", p.info.Number, "addresses", p.kept)
	}
}
