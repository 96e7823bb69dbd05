package store

import (
	"cmp"
	"errors"
	"hash/fnv"
	"math"
	"slices"
)

// Badger puts values of valueThreshold and above into its value log, which is never collected. An
// object with many addresses is therefore stored in parts: the record of the object has a bitmap
// of its parts, and o/<dir><guid><part> has the addresses of a part. The part of an address is a
// hash of its text, so a change of one address writes one part. A part reaches the threshold only
// if an object has 300,000 addresses.

// maxInline is the number of addresses up to which an object has a single record. An address with
// all its marks takes less than 512 bytes, so such a record stays below valueThreshold.
const maxInline = 1024

// objectParts is the number of parts of an object. partOf returns one of them.
const objectParts = 256

// splitVersion begins the record of an object that is stored in parts. Versions of this program
// that do not know parts reject it.
const splitVersion = recordVersion + 1

// objectKeySize is the length of an o/ key without a part.
const objectKeySize = len(prefixObject) + dirIDSize + len(GUID{})

func partKey(dir dirID, guid GUID, part byte) []byte { return append(objectKey(dir, guid), part) }

// isPart reports whether an o/ key is that of a part.
func isPart(key []byte) bool { return len(key) > objectKeySize }

// partOf returns the part that an address belongs to.
func partOf(address string) byte {
	h := fnv.New32a()
	h.Write([]byte(address)) // never fails
	sum := h.Sum32()
	return byte(sum ^ sum>>8 ^ sum>>16 ^ sum>>24)
}

// byPart orders addresses by part, then by text.
func byPart(a, b string) int { return cmp.Or(cmp.Compare(partOf(a), partOf(b)), cmp.Compare(a, b)) }

// arranged returns a record in the form in which it is stored: with more than inline addresses, it
// has parts, and the addresses are in the order of byPart instead of that of the directory. Zero
// means maxInline.
func (r objectRecord) arranged(inline int) objectRecord {
	r.split = len(r.addresses) > cmp.Or(inline, maxInline)
	if r.split {
		order := func(a, b ownedRecord) int { return byPart(a.address, b.address) }
		r.addresses = slices.SortedFunc(slices.Values(r.addresses), order)
	}
	return r
}

// parts returns the addresses of a record by part. For a record without parts, all are empty.
func (r *objectRecord) parts() (all [objectParts][]ownedRecord) {
	if r.split {
		for _, a := range r.addresses {
			part := partOf(a.address)
			all[part] = append(all[part], a)
		}
	}
	return all
}

// partBitmap has a bit for each part that has addresses.
type partBitmap [objectParts / 8]byte

func (m *partBitmap) set(part int)      { m[part/8] |= 1 << (part % 8) }
func (m *partBitmap) has(part int) bool { return m[part/8]&(1<<(part%8)) != 0 }

// setObject replaces the record of an object. It writes only the parts that change. after must be
// arranged.
func (u *unit) setObject(dir dirID, guid GUID, before, after *objectRecord) {
	was, is := before.parts(), after.parts()
	var bitmap partBitmap
	for part, addresses := range is {
		if len(addresses) > 0 {
			bitmap.set(part)
		}
		if slices.Equal(was[part], addresses) {
			continue
		}
		key := partKey(dir, guid, byte(part))
		if len(addresses) == 0 {
			u.delete(key)
			continue
		}
		e := newEncoder()
		e.owned(addresses)
		u.set(key, e)
	}
	switch key := objectKey(dir, guid); {
	case after.empty():
		u.delete(key)
	case after.split:
		u.set(key, after.encodeSplit(&bitmap))
	default:
		u.set(key, after.encode())
	}
}

// encodeSplit encodes a record whose addresses are in parts.
func (r *objectRecord) encodeSplit(bitmap *partBitmap) []byte {
	e := encoder{splitVersion}
	e.string(r.class)
	e.string(r.dn)
	e.bool(r.container)
	e.uint(r.unparsed)
	e.uint(uint64(len(r.addresses)))
	e.raw(bitmap[:])
	return e
}

// decodeSplit reads a record whose addresses are in parts, and calls get for the value of each
// part.
func decodeSplit(value []byte, get func(part byte) ([]byte, error)) (objectRecord, error) {
	d := &decoder{rest: value[1:]}
	r := objectRecord{class: d.string(), dn: d.string(), container: d.bool(), unparsed: d.uint(), split: true}
	count := d.uint()
	var bitmap partBitmap
	copy(bitmap[:], d.raw(uint64(len(bitmap))))
	if err := d.done(); err != nil {
		return r, err
	}
	for part := range objectParts {
		if !bitmap.has(part) {
			continue
		}
		value, err := get(byte(part))
		if err != nil {
			return r, err
		}
		d := newDecoder(value)
		addresses := d.owned()
		if err := d.done(); err != nil {
			return r, err
		}
		r.addresses = append(r.addresses, addresses...)
	}
	if uint64(len(r.addresses)) != count {
		return r, errRecord
	}
	return r, nil
}

// isSplit reports whether the value of an object is that of a record with parts.
func isSplit(value []byte) bool { return len(value) > 0 && value[0] == splitVersion }

// record decodes the value of an o/ key that is not that of a part. At the newest version it reads
// an object with parts again, as of one commit.
func (r reader) record(key, value []byte) (objectRecord, error) {
	if !isSplit(value) {
		return r.s.decodeObject(key, value)
	}
	if r.at != math.MaxUint64 {
		return r.s.decodeParts(key, value, r.get)
	}
	v, err := r.s.view()
	if err != nil {
		return objectRecord{}, err
	}
	defer v.done()
	if value, err = v.get(key); err != nil {
		return objectRecord{}, err
	}
	return v.record(key, value)
}

// decodeParts decodes a record with parts. Its error names the key.
func (s *Store) decodeParts(key, value []byte, get func(key []byte) ([]byte, error)) (objectRecord, error) {
	dir, guid := dirOf(key), guidOf(key)
	record, err := decodeSplit(value, func(part byte) ([]byte, error) { return get(partKey(dir, guid, part)) })
	if errors.Is(err, errRecord) {
		return s.decodedObject(key, record, err)
	}
	return record, err
}

// records visits all objects under a prefix of o/ keys, in the order of their keys.
func (r reader) records(prefix []byte, visit func(dir dirID, guid GUID, record objectRecord) error) error {
	return r.scan(prefix, false, func(kv pair) error {
		if isPart(kv.key) {
			return nil
		}
		record, err := r.record(kv.key, kv.value)
		if err != nil {
			return err
		}
		return visit(dirOf(kv.key), guidOf(kv.key), record)
	})
}

// withParts adds the changes of a record that follow from no change of an owner, and sorts all
// changes by part. A record with parts may be larger than a transaction, so rewriteChanges has to
// be able to write it in several steps.
func withParts(before, after *objectRecord, changes []ownerChange) []ownerChange {
	if !before.split && !after.split {
		return changes
	}
	old := make(map[string]*ownedRecord, len(before.addresses))
	for i := range before.addresses {
		old[before.addresses[i].address] = &before.addresses[i]
	}
	listed := make(map[string]bool, len(changes))
	for _, c := range changes {
		listed[c.address] = true
	}
	all := slices.Clone(changes)
	for i := range after.addresses {
		a := &after.addresses[i]
		if was := old[a.address]; !listed[a.address] && was != nil && *was != *a {
			all = append(all, ownerChange{address: a.address, before: was, after: a})
		}
	}
	slices.SortFunc(all, func(a, b ownerChange) int { return byPart(a.address, b.address) })
	return all
}
