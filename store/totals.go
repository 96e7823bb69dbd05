package store

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math/bits"
	"slices"
)

// totals is the value of m/totals. It is written in the same transaction as what it
// counts.
type totals struct {
	nextPass  uint64
	nextDir   dirID
	addresses int64 // with an owner
	objects   int64 // with an address
	unparsed  int64
	domains   map[string]int64
	owned     map[dirID]int64 // addresses of the objects of a directory, each object's counted
	digest    digest
}

func (t *totals) clone() totals {
	c := *t
	c.domains, c.owned = maps.Clone(t.domains), maps.Clone(t.owned)
	return c
}

func (t *totals) encode() []byte {
	e := newEncoder()
	e.uint(t.nextPass)
	e.uint(uint64(t.nextDir))
	e.uint(uint64(t.addresses))
	e.uint(uint64(t.objects))
	e.uint(uint64(t.unparsed))
	e.raw(t.digest.bytes())
	e.uint(uint64(len(t.domains)))
	for _, domain := range slices.Sorted(maps.Keys(t.domains)) {
		e.string(domain)
		e.uint(uint64(t.domains[domain]))
	}
	e.uint(uint64(len(t.owned)))
	for _, dir := range slices.Sorted(maps.Keys(t.owned)) {
		e.uint(uint64(dir))
		e.uint(uint64(t.owned[dir]))
	}
	return e
}

func decodeTotals(value []byte) (totals, error) {
	t := totals{nextPass: 1, nextDir: 1, domains: map[string]int64{}, owned: map[dirID]int64{}}
	if value == nil {
		return t, nil
	}
	d := newDecoder(value)
	t.nextPass, t.nextDir = d.uint(), dirID(d.uint())
	t.addresses, t.objects, t.unparsed = int64(d.uint()), int64(d.uint()), int64(d.uint())
	t.digest = digestOf(d.raw(sha256.Size))
	for range d.count() {
		domain := d.string()
		t.domains[domain] = int64(d.uint())
	}
	for range d.count() {
		dir := dirID(d.uint())
		t.owned[dir] = int64(d.uint())
	}
	return t, d.done()
}

// replace counts one a/ record turning into another.
func (t *totals) replace(address string, before, after *addressRecord) {
	if before.known() {
		t.count(address, -1)
		t.digest.sub(addressDigest(address, before.restricted()))
	}
	if after.known() {
		t.count(address, 1)
		t.digest.add(addressDigest(address, after.restricted()))
	}
}

func (t *totals) count(address string, n int64) {
	t.addresses += n
	domain := domainOf(address)
	if t.domains[domain] += n; t.domains[domain] <= 0 {
		delete(t.domains, domain)
	}
}

// replaceObject counts one o/ record turning into another.
func (t *totals) replaceObject(dir dirID, before, after *objectRecord) {
	if n := len(after.addresses) - len(before.addresses); n != 0 {
		if t.owned[dir] += int64(n); t.owned[dir] <= 0 {
			delete(t.owned, dir)
		}
	}
	t.unparsed += int64(after.unparsed) - int64(before.unparsed)
	if len(before.addresses) > 0 {
		t.objects--
	}
	if len(after.addresses) > 0 {
		t.objects++
	}
}

// digest is a sum of SHA-256 values modulo 2^256, least significant word first. Sums
// do not depend on the order and can be undone, so it is kept up change by change;
// equal digests hold equal sets of addresses and restricted flags.
type digest [4]uint64

func addressDigest(address string, restricted bool) digest {
	flag := "\x00o"
	if restricted {
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

// String is the digest in hexadecimal.
func (d digest) String() string { return hex.EncodeToString(d.bytes()) }
