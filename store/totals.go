package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
)

// totals is everything that the store counts, as of one commit. It is never changed in place.
// m/totals has the counters. Each directory and each domain has a key of its own, which is
// written only when its counts change, in the same transaction as the change.
type totals struct {
	nextPass  uint64
	nextDir   dirID
	addresses int64 // with an owner
	objects   int64 // with an address
	unparsed  int64
	digest    digest
	domains   domainCounts // addresses with an owner
	dirs      map[dirID]dirTotals
}

// dirTotals counts what one directory has.
type dirTotals struct {
	dirCounts
	dueIn domainCounts // due marks
	last  domainCounts // addresses that are lost once the due marks are released: see addressRecord.lostWith
}

// dirCounts is the value of a t/ key. Marks are those of objectRecord.
type dirCounts struct {
	owned   int64 // addresses of its objects; an address of two objects counts twice
	marked  int64 // objects with marks
	leaving int64 // objects with due marks
	due     int64 // due marks
	waiting int64 // marks that must not be released yet

	objects    int64        // with an address
	ownerships int64        // as owned, counted in the records of addresses
	outbox     int64        // objects in the outbox: see outbox.go
	inRecords  ownershipSum // of the records of objects
	inLookups  ownershipSum // of the records of addresses
}

// numbers lists the counts in the order of their encoding.
func (c *dirCounts) numbers() []*int64 {
	return []*int64{&c.owned, &c.marked, &c.leaving, &c.due, &c.waiting, &c.objects, &c.ownerships, &c.outbox}
}

func newTotals() totals { return totals{nextPass: 1, nextDir: 1} }

// counters returns the value of m/totals.
func (t *totals) counters() []byte {
	e := newEncoder()
	e.uint(t.nextPass)
	e.uint(uint64(t.nextDir))
	e.uint(uint64(t.addresses))
	e.uint(uint64(t.objects))
	e.uint(uint64(t.unparsed))
	e.raw(t.digest.bytes())
	return e
}

// decodeCounters reads m/totals. It skips the counts by domain and by directory that format 1
// had there.
func decodeCounters(value []byte) (totals, error) {
	t := newTotals()
	if value == nil {
		return t, nil
	}
	d := newDecoder(value)
	t.nextPass, t.nextDir = d.uint(), dirID(d.uint())
	t.addresses, t.objects, t.unparsed = int64(d.uint()), int64(d.uint()), int64(d.uint())
	t.digest = digestOf(d.raw(sha256.Size))
	if d.err == nil && len(d.rest) > 0 {
		for range d.count() {
			_, _ = d.string(), d.uint()
		}
		for range d.count() {
			_, _ = d.uint(), d.uint()
		}
	}
	return t, d.done()
}

func (c *dirCounts) encode() []byte {
	e := newEncoder()
	for _, n := range c.numbers() {
		e.uint(uint64(*n))
	}
	for _, sum := range []ownershipSum{c.inRecords, c.inLookups} {
		b := sum.bytes()
		e.raw(b[:])
	}
	return e
}

// countsOfFormatTwo is how many numbers a t/ value had before format 3.
const countsOfFormatTwo = 5

func decodeDirCounts(value []byte) (c dirCounts, err error) {
	d := newDecoder(value)
	for i, n := range c.numbers() {
		if i == countsOfFormatTwo && d.err == nil && len(d.rest) == 0 {
			return c, nil
		}
		*n = int64(d.uint())
	}
	c.inRecords, c.inLookups = ownershipSumOf(d.raw(16)), ownershipSumOf(d.raw(16))
	return c, d.done()
}

// add adds other counts.
func (c *dirCounts) add(o dirCounts) {
	added := o.numbers()
	for i, n := range c.numbers() {
		*n += *added[i]
	}
	c.inRecords.add(o.inRecords)
	c.inLookups.add(o.inLookups)
}

// sub subtracts other counts.
func (c *dirCounts) sub(o dirCounts) {
	for _, n := range o.numbers() {
		*n = -*n
	}
	c.inRecords.sub(o.inRecords)
	c.inLookups.sub(o.inLookups)
	o.inRecords, o.inLookups = ownershipSum{}, ownershipSum{}
	c.add(o)
}

// differsFrom compares everything that a recount can count. It describes the first difference;
// empty means none.
func (t *totals) differsFrom(kept *totals) string {
	same := func(a, b dirTotals) bool {
		return a.dirCounts == b.dirCounts && a.dueIn.equal(b.dueIn) && a.last.equal(b.last)
	}
	switch {
	case t.addresses != kept.addresses || t.objects != kept.objects || t.digest != kept.digest:
		return fmt.Sprintf("it has %d addresses of %d objects (digest %s), its totals are %d of %d (digest %s)",
			t.addresses, t.objects, t.digest, kept.addresses, kept.objects, kept.digest)
	case t.unparsed != kept.unparsed:
		return fmt.Sprintf("it has %d values that cannot be read, its totals are %d", t.unparsed, kept.unparsed)
	case !t.domains.equal(kept.domains):
		return "its addresses by domain differ from its totals"
	case !maps.EqualFunc(t.dirs, kept.dirs, same):
		return "the addresses, marks or digests of its directories differ from its totals"
	}
	return ""
}

// after returns the totals after a change.
func (t *totals) after(c *totalsDelta) totals {
	next := *t
	next.nextPass, next.nextDir = max(t.nextPass, c.nextPass), max(t.nextDir, c.nextDir)
	next.addresses += c.addresses
	next.objects += c.objects
	next.unparsed += c.unparsed
	next.digest.add(c.digest)
	next.domains = t.domains.after(c.domains)
	if len(c.dirs) == 0 {
		return next
	}
	if next.dirs = maps.Clone(t.dirs); next.dirs == nil {
		next.dirs = map[dirID]dirTotals{}
	}
	for id, change := range c.dirs {
		d := next.dirs[id]
		d.add(change.dirCounts)
		d.dueIn, d.last = d.dueIn.after(change.due), d.last.after(change.last)
		if next.dirs[id] = d; d.dirCounts == (dirCounts{}) && d.dueIn.len() == 0 && d.last.len() == 0 {
			delete(next.dirs, id)
		}
	}
	return next
}

// digest is a sum of SHA-256 values modulo 2^256, least significant word first. Sums do not
// depend on the order and can be undone, so each change updates it. Equal digests mean equal
// sets of addresses and internal-only flags.
type digest [4]uint64

func addressDigest(address string, internalOnly bool) digest {
	flag := "\x00o"
	if internalOnly {
		flag = "\x00r"
	}
	sum := sha256.Sum256([]byte(address + flag))
	return digestOf(sum[:])
}

func digestOf(b []byte) (d digest) {
	if len(b) < sha256.Size {
		return d
	}
	for i := range d {
		for j := range 8 {
			d[i] |= uint64(b[8*i+j]) << (8 * j)
		}
	}
	return d
}

func (d digest) bytes() []byte {
	b := make([]byte, sha256.Size)
	for i := range b {
		b[i] = byte(d[i/8] >> (8 * (i % 8)))
	}
	return b
}

func (d *digest) add(o digest) {
	var carry uint64
	for i := range d {
		d[i], carry = bits.Add64(d[i], o[i], carry)
	}
}

func (d *digest) sub(o digest) {
	var borrow uint64
	for i := range d {
		d[i], borrow = bits.Sub64(d[i], o[i], borrow)
	}
}

// String returns the digest in hexadecimal.
func (d digest) String() string { return hex.EncodeToString(d.bytes()) }
