package store

import (
	"fmt"
	"hash/maphash"
	"slices"
)

// Look-ups and the records of objects agree after every commit. An earlier version could
// leave half an object behind: an owner of which no record tells, or the reverse. At the
// end of a full pass both sides are compared as a whole, and if they differ, one by one.

// mend makes look-ups and records of the directory agree. An owner that the record does
// not have is marked, like an address that the pass did not find: it is judged, held and
// released like any removal.
func (p *Pass) repairOwners() error {
	agree, err := p.ownersMatchRecords()
	p.dir.ownersMatch = agree
	if err != nil || agree {
		return err
	}
	// Not found in a damaged table is not the same as not there.
	if err := p.s.verifyTables(); err != nil {
		return p.s.markDamaged(err)
	}
	lost, unowned, err := p.ownerMismatches()
	if err != nil {
		return err
	}
	p.s.config.Log.Warn("look-ups and records of objects differ; mending them",
		"directory", p.info.Directory, "owners_without_record", len(lost), "records_without_owner", len(unowned))
	var guids []GUID
	for guid := range lost {
		guids = append(guids, guid)
	}
	guids = distinctGUIDs(append(guids, unowned...))
	for chunk := range slices.Chunk(guids, writeChunk) {
		err := p.s.write(func(t *tx) error {
			for _, guid := range chunk {
				if err := p.repairObject(t, guid, lost[guid]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// agree compares sums over all (object, address, flags) of both sides.
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

// owners visits the owners of all addresses that are of the directory.
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

// disagreements lists the addresses of which the objects are owners without having them
// in their records, and the objects whose records have an address of which they are not
// the owner, or with other flags.
func (p *Pass) ownerMismatches() (lost map[GUID][]ownedRecord, unowned []GUID, err error) {
	id := p.dir.record.id
	lost = map[GUID][]ownedRecord{}
	err = p.owners(func(a string, o owner) error {
		stored, err := p.s.object(id, o.guid)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(stored.addresses, func(r ownedRecord) bool { return r.address == a }) {
			lost[o.guid] = append(lost[o.guid], ownedRecord{address: a, internalOnly: o.internalOnly})
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
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
	return lost, unowned, err
}

// mendObject gives an object the addresses of which it is an owner, with marks, and makes
// it the owner of those that it has. One that changed after the pass began to read is left
// to a later pass: another object may have gained what it lost.
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
			if p.lag > 0 { // another database may have taught it just now
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
