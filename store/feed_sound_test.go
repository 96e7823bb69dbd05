package store

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// TestDigest: equal ownerships have equal digests, whatever the order and the names of
// directories, and each difference shows.
func TestDigest(t *testing.T) {
	read := func(dir string, objects ...Object) Digest {
		s := open(t, Config{Dir: t.TempDir()})
		pass(t, s, "first", Full, start, "", object(t, 9, "z@x.test"))
		for _, o := range objects {
			pass(t, s, dir, Incremental, start, "", o)
		}
		return mustDigest(t, s, dir)
	}
	one, two := object(t, 1, "a@x.test", "!b@x.test"), object(t, 2, "b@x.test", "a@x.test")
	want := read("corp", one, two)
	if want.Objects != 2 || want.Addresses != 4 || want.Sum == [16]byte{} {
		t.Errorf("digest %x", want)
	}
	for name, c := range map[string]struct {
		objects []Object
		same    bool
	}{
		"other order":     {[]Object{two, object(t, 1, "!b@x.test", "a@x.test")}, true},
		"other directory": {[]Object{one, two}, true},
		"another flag":    {[]Object{object(t, 1, "a@x.test", "b@x.test"), two}, false},
		"another owner":   {[]Object{one, object(t, 3, "b@x.test", "a@x.test")}, false},
		"the flag at the other": {[]Object{object(t, 1, "a@x.test", "b@x.test"),
			object(t, 2, "!b@x.test", "a@x.test")}, false},
		"another address":        {[]Object{one, object(t, 2, "b@x.test", "c@x.test")}, false},
		"one object fewer":       {[]Object{one}, false},
		"an object without any":  {[]Object{one, two, object(t, 4)}, true},
		"it went and came again": {[]Object{one, two, object(t, 2), two}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := "corp"
			if name == "other directory" {
				dir = "elsewhere"
			}
			if got := read(dir, c.objects...); (got == want) != c.same {
				t.Errorf("digest %x beside %x", got, want)
			}
		})
	}
}

// TestFeedIsVerified: a recount notices an entry of the outbox that is missing, and a wrong digest.
func TestFeedIsVerified(t *testing.T) {
	for name, breakIt := range map[string]func(t *tx, id dirID) error{
		"entry": func(t *tx, id dirID) error { return t.delete(outboxKey(id, outboxGains, GUID{15: 1})) },
		"digest": func(t *tx, id dirID) error {
			u := &unit{}
			u.delta.dir(id).inLookups.add(ownershipSum{0, 1})
			return t.add(u)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			switchFeed(t, s, "corp", true)
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			id, _ := s.directoryID("corp")
			if err := s.write(func(t *tx) error { return breakIt(t, id) }); err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(); !errors.Is(err, ErrDamaged) {
				t.Errorf("verify: %v, want ErrDamaged", err)
			}
		})
	}
}

// TestFeedAllIsComplete: an object that cannot be read is an error at the end, not a removal.
func TestFeedAllIsComplete(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	id, _ := s.directoryID("corp")
	if err := s.write(func(t *tx) error { return t.delete(objectKey(id, GUID{15: 2})) }); err != nil {
		t.Fatal(err)
	}
	visited := 0
	err := s.FeedAll("corp", func(FeedObject) error { visited++; return nil })
	if visited != 1 || !errors.Is(err, ErrDamaged) {
		t.Errorf("visited %d, %v, want 1 and ErrDamaged", visited, err)
	}
}

// outboxSound compares the entries of the outbox with their rules: a directory with a feed, one
// entry for each object, and nothing lost that the object has.
func outboxSound(s *Store) error {
	seen := map[string]bool{}
	return s.scan([]byte(prefixOutbox), false, func(kv pair) error {
		entry, err := decodeOutbox(kv.value)
		if err != nil {
			return err
		}
		dir, guid := dirOf(kv.key), guidOf(kv.key)
		object := fmt.Sprintf("%d %x", dir, guid)
		name, _ := s.originOf(dir, 0)
		if d, feed := s.feedOf(name); d == nil || !feed.on {
			return fmt.Errorf("object %s of a directory without a feed is in the outbox", object)
		} else if class := kv.key[len(prefixOutbox)+dirIDSize]; bytes.Compare(guid[:], d.outbox.from[class][:]) < 0 {
			return fmt.Errorf("object %s is in the outbox before its beginning", object)
		}
		if seen[object] {
			return fmt.Errorf("object %s has two entries in the outbox", object)
		}
		seen[object] = true
		for _, a := range entry.lost {
			record, err := s.addressRecord(a.address)
			if flags, there := record.owner(dir, guid); err == nil && there && (a.internalOnly || !flags.internalOnly) {
				err = fmt.Errorf("object %s has lost %s and has it", object, a.address)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// digestsAgree computes the digest of each directory from what lookups answer, and again from what
// FeedAll visits.
func digestsAgree(s *Store) error {
	for _, name := range s.Directories() {
		kept, err := s.Digest(name)
		if err != nil {
			return err
		}
		id, _ := s.directoryID(name)
		var counts dirCounts
		objects := map[GUID]bool{}
		err = s.newest().owners(id, func(a string, o owner) error {
			counts.ownerships++
			counts.inLookups.add(sumOfOwnership(o.guid, a, o.internalOnly))
			objects[o.guid] = true
			return nil
		})
		if err != nil {
			return err
		}
		counts.objects = int64(len(objects))
		all := follower{}
		err = s.FeedAll(name, func(o FeedObject) error { all.set(o); return nil })
		if err != nil && !errors.Is(err, ErrNotRead) {
			return err
		}
		if computed := counts.digest(); computed != kept || err == nil && all.digest() != kept {
			return fmt.Errorf("directory %s: digest %x, from lookups %x, from FeedAll %x", name, kept, computed,
				all.digest())
		}
	}
	return nil
}
