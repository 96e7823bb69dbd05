package store

import (
	"hash/maphash"
	"slices"
)

// A guidSet holds the objects that a full pass has seen. It keeps the hash of each: 9 bytes for an object, where a
// map takes 27. As in the census, two of millions of objects do not share a hash. If they did, an object
// that is gone would keep its addresses until the next full pass, which hashes with another seed.
type guidSet struct {
	seed   maphash.Seed
	shards [][]uint64 // each sorted; by the first bits of the hash
}

// guidSetBits limits how many hashes move when one is inserted: 120 in a set of 500,000.
const guidSetBits = 12

func newGUIDSet() *guidSet {
	return &guidSet{seed: maphash.MakeSeed(), shards: make([][]uint64, 1<<guidSetBits)}
}

// find returns the hash of an object, its shard, its place there, and whether the set has it.
func (s *guidSet) find(guid GUID) (hash uint64, shard *[]uint64, at int, found bool) {
	hash = maphash.Bytes(s.seed, guid[:])
	shard = &s.shards[hash>>(64-guidSetBits)]
	at, found = slices.BinarySearch(*shard, hash)
	return hash, shard, at, found
}

// has reports whether the set has an object. A nil set has none.
func (s *guidSet) has(guid GUID) bool {
	if s == nil {
		return false
	}
	_, _, _, found := s.find(guid)
	return found
}

func (s *guidSet) add(guid GUID) {
	if hash, shard, at, found := s.find(guid); !found {
		*shard = insertTight(*shard, at, hash)
	}
}

// insertTight inserts an element into a slice, which grows by an eighth. With append, a third of the memory of many
// such slices would stay unused.
func insertTight[T any](list []T, at int, element T) []T {
	if len(list) == cap(list) {
		grown := make([]T, len(list), len(list)+max(4, len(list)/8))
		copy(grown, list)
		list = grown
	}
	return slices.Insert(list, at, element)
}
