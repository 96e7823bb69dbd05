package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestDigestAdd: adding what FeedAll visits gives the digest that the store keeps, whatever the changes
// before it.
func TestDigestAdd(t *testing.T) {
	for name, passes := range map[string][][]Object{
		"nothing":       {},
		"one address":   {{object(t, 1, "a@x.test")}},
		"internal-only": {{object(t, 1, "!a@x.test"), object(t, 2, "a@x.test")}},
		"several": {{object(t, 1, "a@x.test", "!b@x.test", "c@y.test"), object(t, 2, "b@x.test"),
			object(t, 3)}},
		"changed": {{object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "c@x.test")},
			{object(t, 1, "!a@x.test"), object(t, 2), object(t, 3, "b@x.test", "c@x.test")},
			{object(t, 1, "a@x.test", "b@x.test")}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "")
			for _, objects := range passes {
				pass(t, s, "corp", Incremental, start, "", objects...)
				wantDigestAdd(t, s, "corp")
			}
			wantDigestAdd(t, s, "corp")
		})
	}
}

// wantDigestAdd compares a directory's digest with what Add makes of all its objects.
func wantDigestAdd(t *testing.T, s *Store, dir string) {
	t.Helper()
	var got Digest
	if err := s.FeedAll(dir, func(o FeedObject) error { got.Add(o); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := mustDigest(t, s, dir); got != want {
		t.Errorf("directory %s: Add gives %x, the store %x", dir, got, want)
	}
}

// TestDigestAddRandom: after random changes, Add in any order and Merge of parts give the digest of the
// store, and Unmerge takes a part out again.
func TestDigestAddRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "")
			pass(t, s, "lab", Full, start, "", object(t, 1, "a0@x.test"))
			for range 5 {
				pass(t, s, "corp", Incremental, start, "", randomObjects(t, r)...)
			}
			wantDigestAdd(t, s, "corp")
			wantDigestAdd(t, s, "lab")
			var all []FeedObject
			if err := s.FeedAll("corp", func(o FeedObject) error { all = append(all, o); return nil }); err != nil {
				t.Fatal(err)
			}
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			var whole, part Digest
			cut := r.IntN(len(all) + 1)
			for _, o := range all[:cut] {
				whole.Add(o)
			}
			first := whole
			for _, o := range all[cut:] {
				part.Add(o)
			}
			whole.Merge(part)
			if want := mustDigest(t, s, "corp"); whole != want {
				t.Errorf("Add and Merge give %x, the store %x", whole, want)
			}
			if whole.Unmerge(part); whole != first {
				t.Errorf("Unmerge gives %x, want %x", whole, first)
			}
		})
	}
}

// randomObjects returns some of 16 objects with some of 12 addresses; each may be internal-only.
func randomObjects(t *testing.T, r *rand.Rand) []Object {
	var all []Object
	for id := range byte(16) {
		if r.IntN(3) == 0 {
			continue
		}
		var addresses []string
		for n := range 12 {
			if r.IntN(4) == 0 {
				addresses = append(addresses, []string{"", "!"}[r.IntN(2)]+fmt.Sprintf("a%d@x.test", n))
			}
		}
		all = append(all, object(t, id+1, addresses...))
	}
	return all
}
