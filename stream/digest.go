package stream

import (
	"bytes"
	"slices"

	"rcpt-milter/store"
)

// sums collects the digests of the objects that a full read returns. An object that changes during the read is
// returned twice, and its last message counts.
type sums struct{ list []sum }

type sum struct {
	guid   store.GUID
	digest store.Digest // of this object only
}

func (s *sums) add(o store.FeedObject) {
	var d store.Digest
	d.Add(o)
	s.list = append(s.list, sum{o.GUID, d})
}

// digest returns the digest of all objects together.
func (s *sums) digest() (all store.Digest) {
	slices.SortStableFunc(s.list, func(a, b sum) int { return bytes.Compare(a.guid[:], b.guid[:]) })
	for i, one := range s.list {
		if i+1 == len(s.list) || s.list[i+1].guid != one.guid {
			all.Merge(one.digest)
		}
	}
	return all
}
