package store

import (
	"slices"
	"time"
)

// GUID identifies an object for its whole life (objectGUID, in wire order).
type GUID [16]byte

// objectRecord is the value of an o/ key.
type objectRecord struct {
	class     string
	dn        string
	container bool
	unparsed  uint64 // values that look like SMTP addresses and cannot be read
	addresses []ownedRecord
}

// ownedRecord is one address of an object. Its order in the record is the
// directory's.
type ownedRecord struct {
	address             string // canonical
	attribute           string
	internalOnly        bool
	learned             stamp
	lastSource          stamp     // when it came back after a pass had missed it, or was opened again; zero: that never was
	gone                stamp     // of the pass that did not find it any more, or not open; zero: there
	notBefore           time.Time // gone, but not to be released before; zero: any time
	rules               rulesID   // gone: under which rules
	seen                time.Time // gone: no database showed it after that; zero: not known
	becomesInternalOnly bool      // gone: for outside senders only, who may write to it until the mark is released
}

// due reports whether the address is marked and the mark waits for no time. A mark that
// waits becomes due when a pass begins at that time or later, which clears notBefore.
func (r *ownedRecord) due() bool { return !r.gone.isZero() && r.notBefore.IsZero() }

// flags returns what the a/ record says of the object's ownership.
func (r *ownedRecord) flags() ownerFlags {
	return ownerFlags{internalOnly: r.internalOnly, leaving: r.due() && !r.becomesInternalOnly, becomesInternalOnly: r.due() && r.becomesInternalOnly}
}

// A stamp says when, in which pass and from where something was learned.
type stamp struct {
	time   time.Time
	pass   uint64
	origin originID
	usn    uint64
}

func (s stamp) isZero() bool { return s.pass == 0 }

// keeps reports whether nothing is about to take the address from the object, or only from
// outside senders if all owners are restricted. If not, it must be open to them.
func (r *ownedRecord) stays(restricted bool) bool {
	if restricted {
		return r.gone.isZero() || r.becomesInternalOnly
	}
	return r.gone.isZero() && !r.internalOnly
}

// unmarked is the address without its mark.
func (r ownedRecord) unmarked() ownedRecord {
	r.gone, r.notBefore, r.rules, r.seen, r.becomesInternalOnly = stamp{}, time.Time{}, 0, time.Time{}, false
	return r
}

func (e *encoder) stamp(s stamp) {
	e.uint(s.pass)
	if s.isZero() {
		return
	}
	e.time(s.time)
	e.uint(uint64(s.origin))
	e.uint(s.usn)
}

func (d *decoder) stamp() (s stamp) {
	if s.pass = d.uint(); s.isZero() {
		return s
	}
	s.time, s.origin, s.usn = d.time(), originID(d.uint()), d.uint()
	return s
}

func (r *objectRecord) encode() []byte {
	e := newEncoder()
	e.string(r.class)
	e.string(r.dn)
	e.bool(r.container)
	e.uint(r.unparsed)
	e.uint(uint64(len(r.addresses)))
	for _, a := range r.addresses {
		e.string(a.address)
		e.string(a.attribute)
		e.addressFlags(&a)
		e.stamp(a.learned)
		e.stamp(a.gone)
		e.time(a.notBefore)
	}
	for i, a := range r.addresses { // few have ever come back
		if !a.lastSource.isZero() {
			e.uint(uint64(i))
			e.stamp(a.lastSource)
		}
		if a.rules != 0 || !a.seen.IsZero() { // few are marked
			e.uint(uint64(len(r.addresses)) + markTag)
			e.uint(uint64(i))
			e.uint(uint64(a.rules))
			e.time(a.seen)
		}
	}
	return e
}

// markTag stands, added to the number of addresses, where the index of an address that came
// back may be: what a mark remembers of its cause follows.
const markTag = 0

// decodeObject reads an o/ value. No value (nil) is an object that was never seen.
func decodeObject(value []byte) (objectRecord, error) {
	if value == nil {
		return objectRecord{}, nil
	}
	d := newDecoder(value)
	r := objectRecord{class: d.string(), dn: d.string(), container: d.bool(), unparsed: d.uint()}
	r.addresses = make([]ownedRecord, d.count())
	for i := range r.addresses {
		a := ownedRecord{address: d.string(), attribute: d.string()}
		a.internalOnly, a.becomesInternalOnly = d.addressFlags()
		a.learned, a.gone, a.notBefore = d.stamp(), d.stamp(), d.time()
		if a.becomesInternalOnly && (a.internalOnly || a.gone.isZero()) {
			d.fail()
		}
		r.addresses[i] = a
	}
	for d.err == nil && len(d.rest) > 0 {
		i, n := d.uint(), uint64(len(r.addresses))
		marked := i == n+markTag
		if marked {
			i = d.uint()
		}
		switch {
		case i >= n:
			return r, errRecord
		case marked:
			r.addresses[i].rules, r.addresses[i].seen = rulesID(d.uint()), d.time()
		default:
			r.addresses[i].lastSource = d.stamp()
		}
	}
	return r, d.done()
}

// addressFlags writes the byte whose bit 0 says that an address is restricted, and bit 1
// that its mark closes it. The others are free, for other kinds of marks: a version that
// does not know one must not take it for a removal.
func (e *encoder) addressFlags(a *ownedRecord) {
	var b byte
	if a.internalOnly {
		b |= 1
	}
	if a.becomesInternalOnly {
		b |= 2
	}
	*e = append(*e, b)
}

func (d *decoder) addressFlags() (restricted, closes bool) {
	b := d.raw(1)
	if len(b) != 1 || b[0] > 3 {
		d.fail()
		return false, false
	}
	return b[0]&1 != 0, b[0]&2 != 0
}

// empty reports whether there is nothing to keep a record for.
func (r *objectRecord) empty() bool {
	return len(r.addresses) == 0 && !r.container && r.unparsed == 0
}

// equal ignores nothing: what a pass reads of an unchanged object gives an equal
// record, because stamps are kept from the stored one.
func (r *objectRecord) equal(o *objectRecord) bool {
	return r.class == o.class && r.dn == o.dn && r.container == o.container &&
		r.unparsed == o.unparsed && slices.Equal(r.addresses, o.addresses)
}

// marked reports whether any address of the object is marked as gone.
func (r *objectRecord) marked() bool {
	return slices.ContainsFunc(r.addresses, func(a ownedRecord) bool { return !a.gone.isZero() })
}

// addressRecord is the value of an a/ key: owners, or the tombstone of the last one.
type addressRecord struct {
	owners            []owner
	removed           time.Time
	pass              uint64
	internalOnlySince time.Time // all owners are restricted: when outside senders lost it; zero: they never had it
}

// owner is one (directory, object) that has the address. An object has it once, even
// if several of its attributes name it.
type owner struct {
	dir  dirID
	guid GUID
	ownerFlags
}

// ownerFlags are one byte of the a/ record. Format 1 had the first bit only.
type ownerFlags struct {
	internalOnly        bool // bit 0: the object takes mail from inside senders only
	leaving             bool // bit 1: the object's mark of the address is due, and removes it
	becomesInternalOnly bool // bit 2: the mark is due, and closes the address to outside senders
}

func (e *encoder) ownerFlags(f ownerFlags) {
	var b byte
	if f.internalOnly {
		b |= 1
	}
	if f.leaving {
		b |= 2
	}
	if f.becomesInternalOnly {
		b |= 4
	}
	*e = append(*e, b)
}

func (d *decoder) ownerFlags() (f ownerFlags) {
	b := d.raw(1)
	if len(b) != 1 || b[0] > 4 {
		d.fail()
		return f
	}
	return ownerFlags{internalOnly: b[0]&1 != 0, leaving: b[0]&2 != 0, becomesInternalOnly: b[0]&4 != 0}
}

func (r *addressRecord) encode() []byte {
	e := newEncoder()
	e.uint(uint64(len(r.owners)))
	for _, o := range r.owners {
		e.uint(uint64(o.dir))
		e.raw(o.guid[:])
		e.ownerFlags(o.ownerFlags)
	}
	if len(r.owners) == 0 {
		e.time(r.removed)
		e.uint(r.pass)
	} else if !r.internalOnlySince.IsZero() {
		e.time(r.internalOnlySince)
	}
	return e
}

// decodeAddress reads an a/ value. No value (nil) is an address never seen.
func decodeAddress(value []byte) (addressRecord, error) {
	var r addressRecord
	if value == nil {
		return r, nil
	}
	d := newDecoder(value)
	if n := d.count(); n > 0 {
		r.owners = make([]owner, n)
		for i := range r.owners {
			r.owners[i].dir = dirID(d.uint())
			copy(r.owners[i].guid[:], d.raw(uint64(len(GUID{}))))
			r.owners[i].ownerFlags = d.ownerFlags()
		}
		if d.err == nil && len(d.rest) > 0 { // most were never open, or are
			r.internalOnlySince = d.time()
		}
		return r, d.done()
	}
	r.removed, r.pass = d.time(), d.uint()
	return r, d.done()
}

func (r *addressRecord) known() bool { return len(r.owners) > 0 }

// leaving reports whether releasing the due marks of one directory would leave the
// address without an owner that counts, and of which.
func (r *addressRecord) lostWith() (dirID, bool) {
	if !r.known() {
		return 0, false
	}
	counting := r.decisiveOwners()
	dir := counting[0].dir
	return dir, !slices.ContainsFunc(counting, func(o owner) bool { return o.dir != dir || !o.leaving && !o.becomesInternalOnly })
}

// counting returns the owners that keep an address from being lost: those that take mail
// from outside senders or, if there are none, all.
func (r *addressRecord) decisiveOwners() []owner {
	if r.internalOnly() || !slices.ContainsFunc(r.owners, func(o owner) bool { return o.internalOnly }) {
		return r.owners
	}
	return slices.DeleteFunc(slices.Clone(r.owners), func(o owner) bool { return o.internalOnly })
}

// owner returns the flags of an owner, and whether it is one.
func (r *addressRecord) owner(dir dirID, guid GUID) (ownerFlags, bool) {
	for _, o := range r.owners {
		if o.dir == dir && o.guid == guid {
			return o.ownerFlags, true
		}
	}
	return ownerFlags{}, false
}

// restricted reports whether every owner takes mail from inside senders only.
func (r *addressRecord) internalOnly() bool {
	return r.known() && !slices.ContainsFunc(r.owners, func(o owner) bool { return !o.internalOnly })
}

// lost is when the address was lost: to all, or to outside senders.
func (r *addressRecord) lostAt() time.Time {
	if r.known() {
		return r.internalOnlySince
	}
	return r.removed
}

// set adds an owner or changes its flag.
func (r *addressRecord) set(o owner) {
	i := slices.IndexFunc(r.owners, func(p owner) bool { return p.dir == o.dir && p.guid == o.guid })
	if i < 0 {
		r.owners = append(r.owners, o)
	} else {
		r.owners[i] = o
	}
	r.removed, r.pass = time.Time{}, 0
}

// remove takes an owner away, and reports whether it was one.
func (r *addressRecord) remove(dir dirID, guid GUID) bool {
	before := len(r.owners)
	r.owners = slices.DeleteFunc(r.owners, func(o owner) bool { return o.dir == dir && o.guid == guid })
	return len(r.owners) < before
}
