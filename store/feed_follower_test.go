package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A follower is a plain map that follows the feed of one directory.
type follower map[GUID]FeedObject

// set replaces an object.
func (f follower) set(o FeedObject) {
	if len(o.Addresses) == 0 {
		delete(f, o.GUID)
		return
	}
	f[o.GUID] = o
}

// owners returns the known addresses, and whether they are internal-only.
func (f follower) owners() map[string]bool {
	all := map[string]bool{}
	for _, o := range f {
		for _, a := range o.Addresses {
			internalOnly, known := all[a.Address.String()]
			all[a.Address.String()] = a.InternalOnly && (internalOnly || !known)
		}
	}
	return all
}

// digest computes the digest of what the follower has.
func (f follower) digest() Digest {
	var counts dirCounts
	for _, o := range f {
		counts.objects++
		for _, a := range o.Addresses {
			counts.ownerships++
			counts.inLookups.add(sumOfOwnership(o.GUID, a.Address.String(), a.InternalOnly))
		}
	}
	return counts.digest()
}

// text lists what the follower has, without what the edges do not use.
func (f follower) text() string {
	var lines []string
	for guid, o := range f {
		var all []string
		for _, a := range o.Addresses {
			all = append(all, fmt.Sprint(a.Address, " ", a.InternalOnly))
		}
		slices.Sort(all)
		lines = append(lines, fmt.Sprintf("%x: %s", guid, strings.Join(all, ", ")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// feedAll returns everything that a directory has.
func feedAll(t testing.TB, s *Store, dir string) follower {
	t.Helper()
	f := follower{}
	if err := s.FeedAll(dir, func(o FeedObject) error { f.set(o); return nil }); err != nil {
		t.Fatal(err)
	}
	return f
}

// follow applies up to rounds rounds of changes, and reports whether none is left.
func (f follower) follow(t testing.TB, s *Store, dir string, limit, rounds int, applied func(FeedObject)) bool {
	t.Helper()
	for range rounds {
		changes, err := s.FeedChanges(dir, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) == 0 {
			return true
		}
		for _, o := range changes {
			f.set(o)
			if applied != nil {
				applied(o)
			}
		}
		if err := s.FeedDone(dir, changes); err != nil {
			t.Fatal(err)
		}
	}
	return false
}

func wantFollowed(t testing.TB, s *Store, dir string, f follower) {
	t.Helper()
	f.follow(t, s, dir, 1000, 100, nil)
	all := feedAll(t, s, dir)
	if got, want := f.text(), all.text(); got != want {
		t.Errorf("directory %s: the follower has\n%s\nthe store has\n%s", dir, got, want)
	}
	if got, err := s.Digest(dir); err != nil || got != all.digest() || got != f.digest() {
		t.Errorf("directory %s: digest %x, %v, computed %x", dir, got, err, all.digest())
	}
	if n := s.Directory(dir).FeedPending; n != 0 {
		t.Errorf("directory %s: %d objects are pending, none should be", dir, n)
	}
}

func switchFeed(t testing.TB, s *Store, dir string, on bool) {
	t.Helper()
	if err := s.SetFeed(dir, on); err != nil {
		t.Fatal(err)
	}
}

// describe makes objects short.
func describe(objects []FeedObject) (texts []string) {
	for _, o := range objects {
		text := fmt.Sprint(o.GUID[15], ":")
		for _, a := range o.Addresses {
			mark := ""
			if a.InternalOnly {
				mark = "!"
			}
			text += " " + mark + a.Address.String()
		}
		texts = append(texts, text)
	}
	return texts
}

// ownersOf returns what lookups answer of a directory, from the records of addresses.
func ownersOf(t testing.TB, s *Store, dir string) map[string]bool {
	t.Helper()
	id, _ := s.directoryID(dir)
	all := map[string]bool{}
	err := s.newest().owners(id, func(a string, o owner) error {
		internalOnly, known := all[a]
		all[a] = o.internalOnly && (internalOnly || !known)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustDigest(t testing.TB, s *Store, dir string) Digest {
	t.Helper()
	d, err := s.Digest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
