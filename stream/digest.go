package stream

import (
	"bytes"
	"slices"

	"rcpt-milter/store"
)

// sums collects what a full read adds to a digest. An object that changes during the read comes
// twice; the last message counts.
type sums struct{ list []sum }

type sum struct {
	guid   store.GUID
	digest store.Digest // of this object alone
}

func (s *sums) add(o store.FeedObject) {
	var d store.Digest
	d.Add(o)
	s.list = append(s.list, sum{o.GUID, d})
}

// digest returns the digest of all objects.
func (s *sums) digest() (all store.Digest) {
	slices.SortStableFunc(s.list, func(a, b sum) int { return bytes.Compare(a.guid[:], b.guid[:]) })
	for i, one := range s.list {
		if i+1 == len(s.list) || s.list[i+1].guid != one.guid {
			all.Merge(one.digest)
		}
	}
	return all
}
