package store

import (
	"slices"
	"time"
)

// GUID identifies an object for its whole life (objectGUID, in wire order). The package knows
// nothing of LDAP, so it does not use the type of package directory; mirror converts.
type GUID [16]byte

// objectRecord is the value of an o/ key.
type objectRecord struct {
	class     string
	dn        string
	container bool
	unparsed  uint64 // values that look like SMTP addresses and cannot be parsed
	addresses []ownedRecord
	split     bool // it is stored in parts: see parts.go
}

// ownedRecord is one address of an object. The records of an object keep the order of the
// directory.
type ownedRecord struct {
	address             string // canonical
	attribute           string
	internalOnly        bool
	learned             stamp
	lastSource          stamp     // when it came back after a pass had missed it, or was opened again; zero means never
	mark                stamp     // the mark: of the pass that missed it, or found it internal-only; zero means no mark
	notBefore           time.Time // of a mark: the earliest release; zero means at any time
	rules               rulesID   // of a mark: the rules it was made under
	seen                time.Time // of a mark: no database showed the address later; zero means unknown
	becomesInternalOnly bool      // of a mark: only for outside senders, which may use the address until the release
	undeleted           bool      // of a mark: no tombstone was read when it was made, the object may live
}

// due reports whether the address has a mark that does not wait. A waiting mark becomes due when
// a pass begins at its time or later, which clears notBefore.
func (r *ownedRecord) due() bool { return !r.mark.isZero() && r.notBefore.IsZero() }

// flags returns the flags of the object's ownership in the a/ record.
func (r *ownedRecord) flags() ownerFlags {
	due := r.due()
	return ownerFlags{internalOnly: r.internalOnly, leaving: due && !r.becomesInternalOnly,
		becomesInternalOnly: due && r.becomesInternalOnly}
}

// A stamp is when, in which pass and from where something was learned.
type stamp struct {
	time   time.Time
	pass   uint64
	origin originID
	usn    uint64
}

func (s stamp) isZero() bool { return s.pass == 0 }

// stays reports whether the object is going to keep the address. Unless all owners are
// internal-only (internalOnly), the address must also stay open to outside senders.
func (r *ownedRecord) stays(internalOnly bool) bool {
	if internalOnly {
		return r.mark.isZero() || r.becomesInternalOnly
	}
	return r.mark.isZero() && !r.internalOnly
}

// unmarked returns the address without its mark.
func (r ownedRecord) unmarked() ownedRecord {
	r.mark, r.notBefore, r.rules, r.seen = stamp{}, time.Time{}, 0, time.Time{}
	r.becomesInternalOnly, r.undeleted = false, false
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
	e.owned(r.addresses)
	return e
}

// owned appends a list of addresses, which ends the record.
func (e *encoder) owned(addresses []ownedRecord) {
	e.uint(uint64(len(addresses)))
	for _, a := range addresses {
		e.string(a.address)
		e.string(a.attribute)
		e.addressFlags(&a)
		e.stamp(a.learned)
		e.stamp(a.mark)
		e.time(a.notBefore)
	}
	for i, a := range addresses { // few have ever come back
		if !a.lastSource.isZero() {
			e.uint(uint64(i))
			e.stamp(a.lastSource)
		}
		if a.rules != 0 || !a.seen.IsZero() { // few are marked
			e.uint(uint64(len(addresses)) + markTag)
			e.uint(uint64(i))
			e.uint(uint64(a.rules))
			e.time(a.seen)
		}
	}
}

// markTag plus the number of addresses takes the place of the index of an address that came
// back. The rules and the last sighting of a mark follow it.
const markTag = 0

// decodeObject reads an o/ value without parts. A nil value is an object that was never seen.
func decodeObject(value []byte) (objectRecord, error) {
	if value == nil {
		return objectRecord{}, nil
	}
	d := newDecoder(value)
	r := objectRecord{class: d.string(), dn: d.string(), container: d.bool(), unparsed: d.uint()}
	r.addresses = d.owned()
	return r, d.done()
}

// owned reads a list of addresses up to the end of the record.
func (d *decoder) owned() []ownedRecord {
	addresses := make([]ownedRecord, d.count())
	for i := range addresses {
		a := ownedRecord{address: d.string(), attribute: d.string()}
		d.addressFlags(&a)
		a.learned, a.mark, a.notBefore = d.stamp(), d.stamp(), d.time()
		if a.becomesInternalOnly && a.internalOnly || a.mark.isZero() && (a.becomesInternalOnly || a.undeleted) {
			d.fail()
		}
		addresses[i] = a
	}
	for d.err == nil && len(d.rest) > 0 {
		i, n := d.uint(), uint64(len(addresses))
		marked := i == n+markTag
		if marked {
			i = d.uint()
		}
		switch {
		case i >= n:
			d.fail()
		case marked:
			addresses[i].rules, addresses[i].seen = rulesID(d.uint()), d.time()
		default:
			addresses[i].lastSource = d.stamp()
		}
	}
	return addresses
}

// The bits of the flag byte of an address. The other bits are free for other kinds of marks: a
// version that does not know one must not treat it as a removal.
const (
	flagInternalOnly = 1 << iota
	flagBecomesInternalOnly
	flagUndeleted
)

func (e *encoder) addressFlags(a *ownedRecord) {
	var b byte
	if a.internalOnly {
		b |= flagInternalOnly
	}
	if a.becomesInternalOnly {
		b |= flagBecomesInternalOnly
	}
	if a.undeleted {
		b |= flagUndeleted
	}
	*e = append(*e, b)
}

func (d *decoder) addressFlags(a *ownedRecord) {
	b := d.raw(1)
	if len(b) != 1 || b[0] > flagInternalOnly|flagBecomesInternalOnly|flagUndeleted {
		d.fail()
		return
	}
	a.internalOnly = b[0]&flagInternalOnly != 0
	a.becomesInternalOnly = b[0]&flagBecomesInternalOnly != 0
	a.undeleted = b[0]&flagUndeleted != 0
}

// empty reports whether the object needs no record.
func (r *objectRecord) empty() bool {
	return len(r.addresses) == 0 && !r.container && r.unparsed == 0
}

// equal compares all fields. An unchanged object gives an equal record, because diff keeps the
// stored stamps.
func (r *objectRecord) equal(o *objectRecord) bool {
	return r.class == o.class && r.dn == o.dn && r.container == o.container &&
		r.unparsed == o.unparsed && slices.Equal(r.addresses, o.addresses)
}

// marked reports whether any address of the object has a mark.
func (r *objectRecord) marked() bool {
	return slices.ContainsFunc(r.addresses, func(a ownedRecord) bool { return !a.mark.isZero() })
}

// addressRecord is the value of an a/ key: owners, or the tombstone of the last one.
type addressRecord struct {
	owners  []owner
	removed time.Time
	pass    uint64
	// If all owners are internal-only, internalOnlySince is when outside senders lost the
	// address. Zero means that they never had it.
	internalOnlySince time.Time
}

// owner is one (directory, object) pair that has the address. An object has it once, even if
// several of its attributes have it.
type owner struct {
	dir  dirID
	guid GUID
	ownerFlags
}

// ownerFlags is one byte of the a/ record. Format 1 had the first bit only.
type ownerFlags struct {
	internalOnly        bool // bit 0: the object accepts mail from internal senders only
	leaving             bool // bit 1: the object's mark is due and removes the address
	becomesInternalOnly bool // bit 2: the mark is due and makes the address internal-only
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

// decodeAddress reads an a/ value. A nil value is an address that was never seen.
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
		if d.err == nil && len(d.rest) > 0 { // most addresses are open, or were never open
			r.internalOnlySince = d.time()
		}
		return r, d.done()
	}
	r.removed, r.pass = d.time(), d.uint()
	return r, d.done()
}

func (r *addressRecord) known() bool { return len(r.owners) > 0 }

// lostWith returns the directory whose due marks, once released, leave the address without a
// decisive owner. It reports whether there is one.
func (r *addressRecord) lostWith() (dirID, bool) {
	if !r.known() {
		return 0, false
	}
	decisive := r.decisiveOwners()
	dir := decisive[0].dir
	stays := func(o owner) bool { return o.dir != dir || !o.leaving && !o.becomesInternalOnly }
	return dir, !slices.ContainsFunc(decisive, stays)
}

// decisiveOwners returns the owners that keep an address from being lost: those that accept mail
// from outside senders or, if there are none, all.
func (r *addressRecord) decisiveOwners() []owner {
	if r.internalOnly() || !slices.ContainsFunc(r.owners, func(o owner) bool { return o.internalOnly }) {
		return r.owners
	}
	return slices.DeleteFunc(slices.Clone(r.owners), func(o owner) bool { return o.internalOnly })
}

// owner returns the flags of an owner and reports whether it is one.
func (r *addressRecord) owner(dir dirID, guid GUID) (ownerFlags, bool) {
	for _, o := range r.owners {
		if o.dir == dir && o.guid == guid {
			return o.ownerFlags, true
		}
	}
	return ownerFlags{}, false
}

// ownedBy reports whether an object of a directory has the address.
func (r *addressRecord) ownedBy(dir dirID) bool {
	return slices.ContainsFunc(r.owners, func(o owner) bool { return o.dir == dir })
}

// internalOnly reports whether every owner accepts mail from internal senders only.
func (r *addressRecord) internalOnly() bool {
	return r.known() && !slices.ContainsFunc(r.owners, func(o owner) bool { return !o.internalOnly })
}

// open reports whether the address is known and accepts mail from outside senders.
func (r *addressRecord) open() bool { return r.known() && !r.internalOnly() }

// lostAt returns when the address was lost, to all senders or to outside senders.
func (r *addressRecord) lostAt() time.Time {
	if r.known() {
		return r.internalOnlySince
	}
	return r.removed
}

// set adds an owner or changes its flags.
func (r *addressRecord) set(o owner) {
	i := slices.IndexFunc(r.owners, func(p owner) bool { return p.dir == o.dir && p.guid == o.guid })
	if i < 0 {
		r.owners = append(r.owners, o)
	} else {
		r.owners[i] = o
	}
	r.removed, r.pass = time.Time{}, 0
}

// remove removes an owner and reports whether it was one.
func (r *addressRecord) remove(dir dirID, guid GUID) bool {
	before := len(r.owners)
	r.owners = slices.DeleteFunc(r.owners, func(o owner) bool { return o.dir == dir && o.guid == guid })
	return len(r.owners) < before
}
