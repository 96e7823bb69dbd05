package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Digest is a digest of all (GUID, address, internal-only) of a directory, as lookups answer
// them. It does not depend on the order, nor on anything else that differs between two stores
// that answer the same. An address that is held or waits still counts.
type Digest struct {
	Sum                [16]byte
	Objects, Addresses uint64 // objects with an address, and their addresses
}

// Digest returns the digest of a directory as of the newest commit. Each commit updates it, so it
// costs two reads. An unknown directory has the zero digest.
func (s *Store) Digest(name string) (Digest, error) {
	v, err := s.view()
	if err != nil {
		return Digest{}, err
	}
	defer v.done()
	if err := s.damageOrNil(); err != nil {
		return Digest{}, err
	}
	d, err := v.directory(name)
	if err != nil || d.id == 0 {
		return Digest{}, err
	}
	return v.digest(d.id)
}

func (r reader) digest(dir dirID) (Digest, error) {
	counts, err := r.dirCounts(dir)
	if err != nil || counts.recordsMatch() {
		return counts.digest(), err
	}
	found := counts // the records do not say how many objects own something
	found.objects = 0
	err = r.feedObjects(dir, func(FeedObject) error { found.objects++; return nil })
	return found.digest(), err
}

// dirCounts reads the counts of a directory.
func (r reader) dirCounts(dir dirID) (dirCounts, error) {
	if r.s.older { // they were counted at opening
		return r.s.totals.Load().dirs[dir].dirCounts, nil
	}
	key := dirKey(prefixCounts, dir)
	value, err := r.get(key)
	if err != nil || value == nil {
		return dirCounts{}, err
	}
	counts, err := decodeDirCounts(value)
	if err != nil {
		return counts, r.s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return counts, nil
}

// digest returns what the counts of a directory say of its ownerships.
func (c *dirCounts) digest() Digest {
	return Digest{Sum: c.inLookups.bytes(), Objects: uint64(c.objects), Addresses: uint64(c.ownerships)}
}

// recordsMatch reports whether the records of objects have the ownerships that lookups answer.
// They do, unless an earlier version wrote half an object: see repair.go.
func (c *dirCounts) recordsMatch() bool { return c.inLookups == c.inRecords && c.ownerships == c.owned }

// ownershipSum is a sum of hashes of (GUID, address, internal-only) modulo 2^128. A change adds
// and subtracts only what it changes.
type ownershipSum struct{ high, low uint64 }

// sumOfOwnership returns the sum of one ownership.
func sumOfOwnership(guid GUID, address string, internalOnly bool) ownershipSum {
	var buffer [maxAddressKey]byte
	text := append(append(buffer[:0], guid[:]...), address...)
	if internalOnly {
		text = append(text, 0)
	}
	sum := sha256.Sum256(text)
	return ownershipSumOf(sum[:])
}

func ownershipSumOf(b []byte) ownershipSum {
	if len(b) < 16 {
		return ownershipSum{}
	}
	return ownershipSum{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (s ownershipSum) bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], s.high)
	binary.BigEndian.PutUint64(b[8:], s.low)
	return b
}

func (s *ownershipSum) add(o ownershipSum) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, o.low, 0)
	s.high, _ = bits.Add64(s.high, o.high, carry)
}

func (s *ownershipSum) sub(o ownershipSum) {
	var borrow uint64
	s.low, borrow = bits.Sub64(s.low, o.low, 0)
	s.high, _ = bits.Sub64(s.high, o.high, borrow)
}

// owners counts the changed owners of an address.
func (c *totalsDelta) owners(a string, before, after []owner) {
	same := func(a, b owner) bool { return a.dir == b.dir && a.guid == b.guid && a.internalOnly == b.internalOnly }
	before, after = withoutCommon(before, after, same)
	for _, o := range before {
		d := &c.dir(o.dir).dirCounts
		d.ownerships--
		d.inLookups.sub(sumOfOwnership(o.guid, a, o.internalOnly))
	}
	for _, o := range after {
		d := &c.dir(o.dir).dirCounts
		d.ownerships++
		d.inLookups.add(sumOfOwnership(o.guid, a, o.internalOnly))
	}
}

// recorded counts the changed addresses in the record of an object.
func (c *totalsDelta) recorded(dir dirID, guid GUID, before, after []ownedRecord) {
	same := func(a, b ownedRecord) bool { return a.address == b.address && a.internalOnly == b.internalOnly }
	before, after = withoutCommon(before, after, same)
	if len(before)+len(after) == 0 {
		return
	}
	d := &c.dir(dir).dirCounts
	for i := range before {
		d.inRecords.sub(sumOfOwnership(guid, before[i].address, before[i].internalOnly))
	}
	for i := range after {
		d.inRecords.add(sumOfOwnership(guid, after[i].address, after[i].internalOnly))
	}
}

// withoutCommon cuts off what two lists have in common at their beginnings and at their ends.
func withoutCommon[T any](a, b []T, same func(a, b T) bool) (restA, restB []T) {
	for len(a) > 0 && len(b) > 0 && same(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && same(a[len(a)-1], b[len(b)-1]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}
