package store

import (
	"fmt"
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
		return p.s.markDamaged(err)
	}
	lost, err := p.ownersWithoutRecord()
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
	err := p.s.scan(dirKey(prefixObject, id), false, func(kv pair) error {
		r, err := decodeObject(kv.value)
		if err != nil {
			return p.s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		guid := guidOf(kv.key)
		for i := range r.addresses {
			records += sum(guid, r.addresses[i].address, r.addresses[i].flags())
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	err = p.owners(func(a string, o owner) error {
		owners += sum(o.guid, a, o.ownerFlags)
		return nil
	})
	return records == owners, err
}

// owners visits all owners of addresses that belong to the directory.
func (p *Pass) owners(visit func(a string, o owner) error) error {
	return p.s.scan([]byte(prefixAddress), false, func(kv pair) error {
		r, err := decodeAddress(kv.value)
		if err != nil {
			return p.s.unreadable(string(kv.key), err)
		}
		for _, o := range r.owners {
			if o.dir != p.dir.record.id {
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
func (p *Pass) ownersWithoutRecord() (map[GUID][]ownedRecord, error) {
	lost := map[GUID][]ownedRecord{}
	err := p.owners(func(a string, o owner) error {
		stored, err := p.s.object(p.dir.record.id, o.guid)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(stored.addresses, func(r ownedRecord) bool { return r.address == a }) {
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
	err = p.s.scan(dirKey(prefixObject, id), false, func(kv pair) error {
		stored, err := decodeObject(kv.value)
		if err != nil {
			return p.s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		for i := range stored.addresses {
			a := &stored.addresses[i]
			record, err := p.s.addressRecord(a.address)
			if err != nil {
				return err
			}
			if flags, there := record.owner(id, guidOf(kv.key)); !there || flags != a.flags() {
				unowned = append(unowned, guidOf(kv.key))
				break
			}
		}
		return nil
	})
	return unowned, err
}

// repairObject adds to an object, with marks, the addresses that have it as owner, and makes it
// an owner of all addresses in its record. It leaves an object that changed after the pass began
// to read to a later pass, because another object may have gained what this one lost.
func (p *Pass) repairObject(t *tx, guid GUID, lost []ownedRecord) error {
	stored, err := t.object(p.dir.record.id, guid)
	if err != nil {
		return err
	}
	next := stored
	if !p.unsettled[guid] {
		next.addresses = slices.Clone(stored.addresses)
		for _, a := range lost {
			a.gone = p.stamp(0)
			if p.lag > 0 { // it may have been learned from another database just now
				a.notBefore = p.now().Add(p.lag)
			}
			next.addresses = append(next.addresses, a)
		}
	}
	changes, err := p.ownerChanges(t, guid, &stored, &next, true)
	if err != nil || len(changes) == 0 {
		return err
	}
	p.info.Changed++
	return p.rewriteChanges(t, guid, &stored, &next, changes, &unit{})
}
