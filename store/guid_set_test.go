package store

import (
	"math/rand/v2"
	"testing"
)

// TestGUIDSet compares a set with a map, with objects that come twice.
func TestGUIDSet(t *testing.T) {
	set, want := newGUIDSet(), map[GUID]bool{}
	random := rand.New(rand.NewPCG(1, 2))
	guid := func(n int) (g GUID) {
		g[0], g[7], g[15] = byte(n), byte(n>>8), byte(n>>16)
		return g
	}
	const n = 100_000
	for range n {
		g := guid(random.IntN(n))
		set.add(g)
		want[g] = true
	}
	for i := range n {
		if g := guid(i); set.has(g) != want[g] {
			t.Fatalf("object %d: %t, want %t", i, set.has(g), want[g])
		}
	}
	size := 0
	for _, shard := range set.shards {
		size += len(shard)
	}
	if size != len(want) {
		t.Errorf("%d hashes of %d objects", size, len(want))
	}
	if (*guidSet)(nil).has(guid(1)) {
		t.Error("an incremental pass has seen an object")
	}
}
