package store

import "encoding/binary"

// Add adds the addresses of an object. An object must be added once, with all its addresses.
func (d *Digest) Add(o FeedObject) {
	for _, a := range o.Addresses {
		d.add(sumOfOwnership(o.GUID, a.Address.String(), a.InternalOnly).bytes())
	}
	d.Addresses += uint64(len(o.Addresses))
	if len(o.Addresses) > 0 {
		d.Objects++
	}
}

// Merge adds what another digest covers. No object may be in both.
func (d *Digest) Merge(o Digest) {
	d.add(o.Sum)
	d.Objects += o.Objects
	d.Addresses += o.Addresses
}

// add adds modulo 2^128.
func (d *Digest) add(sum [16]byte) {
	low := binary.BigEndian.Uint64(d.Sum[8:]) + binary.BigEndian.Uint64(sum[8:])
	high := binary.BigEndian.Uint64(d.Sum[:8]) + binary.BigEndian.Uint64(sum[:8])
	if low < binary.BigEndian.Uint64(sum[8:]) {
		high++
	}
	binary.BigEndian.PutUint64(d.Sum[:8], high)
	binary.BigEndian.PutUint64(d.Sum[8:], low)
}

// Unmerge takes out what Merge added.
func (d *Digest) Unmerge(o Digest) {
	d.add(negated(o.Sum))
	d.Objects -= o.Objects
	d.Addresses -= o.Addresses
}

// negated returns what adds up to zero with a sum.
func negated(sum [16]byte) (n [16]byte) {
	high, low := ^binary.BigEndian.Uint64(sum[:8]), ^binary.BigEndian.Uint64(sum[8:])
	if low++; low == 0 {
		high++
	}
	binary.BigEndian.PutUint64(n[:8], high)
	binary.BigEndian.PutUint64(n[8:], low)
	return n
}
