package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkSound fails unless lookups, records, marks and counts agree, in memory and on disk.
func checkSound(t testing.TB, s *Store) {
	t.Helper()
	if err := soundness(s); err != nil {
		t.Error(err)
	}
}

// soundness recounts everything from the records of objects and returns the differences. A store
// has none at any time, not even right after a crash.
func soundness(s *Store) error {
	if err := s.Recount(); err != nil {
		return err
	}
	if err := errors.Join(absenceAgrees(s), outboxSound(s), digestsAgree(s)); err != nil {
		return err
	}
	kept := s.totals.Load()
	loaded, err := s.newest().totals()
	if err != nil {
		return err
	}
	if loaded.differsFrom(kept) != "" || loaded.nextPass != kept.nextPass || loaded.nextDir != kept.nextDir {
		return fmt.Errorf("the counts on disk are not those in memory:\n%+v\n%+v", loaded, *kept)
	}
	want := map[string]string{} // owners, and keys of marks
	err = s.newest().records([]byte(prefixObject), func(dir dirID, guid GUID, r objectRecord) error {
		for i := range r.addresses {
			a := &r.addresses[i]
			want[fmt.Sprintf("%s %d %x", a.address, dir, guid)] = fmt.Sprint(a.flags())
		}
		for key := range r.markKeys(dir, guid) {
			want[key] = "mark"
		}
		return nil
	})
	if err != nil {
		return err
	}
	got := map[string]string{}
	err = s.scan([]byte(prefixAddress), false, func(kv pair) error {
		r, err := decodeAddress(kv.value)
		for _, o := range r.owners {
			got[fmt.Sprintf("%s %d %x", kv.key[len(prefixAddress):], o.dir, o.guid)] = fmt.Sprint(o.ownerFlags)
		}
		return err
	})
	for _, prefix := range []string{prefixMarked, prefixWaiting} {
		err = errors.Join(err, s.scan([]byte(prefix), true,
			func(kv pair) error { got[string(kv.key)] = "mark"; return nil }))
	}
	if err != nil {
		return err
	}
	if maps.Equal(want, got) {
		return nil
	}
	return fmt.Errorf("records say (-), lookups and keys of marks say (+):\n%.3000s", cmp.Diff(want, got))
}

// person returns an object with an address in each of twenty domains; large organisations have
// such people.
func person(t testing.TB, n int) Object {
	o := object(t, 0)
	o.GUID = GUID{2, byte(n >> 16), byte(n >> 8), byte(n)}
	o.DN = fmt.Sprintf("CN=Lastname-Otherlastname\\, Firstname (%d),OU=Users,OU=Berlin,OU=Europe,DC=corp,DC=example", n)
	for i := range 20 {
		text := fmt.Sprintf("firstname.lastname-otherlastname%d@subsidiary-%02d.corp.example", n, i)
		o.Addresses = append(o.Addresses, Owned{Address: mustParse(t, text), Attribute: "proxyaddresses"})
	}
	return o
}

// newsletter returns an object with about as many addresses as Active Directory allows.
func newsletter(t testing.TB, id byte, n, length int) Object {
	o := Object{GUID: GUID{id}, Class: "user", DN: fmt.Sprintf("CN=Newsletter %d,OU=Services,DC=corp,DC=example", id)}
	for i := range n {
		text := fmt.Sprintf("%s%d-%d@lists.corp.example", strings.Repeat("s", length), id, i)
		o.Addresses = append(o.Addresses, Owned{Address: mustParse(t, text), Attribute: "proxyaddresses"})
	}
	return o
}

// TestEveryCommitIsSound: a crash may leave the state after any commit, so each must be sound.
func TestEveryCommitIsSound(t *testing.T) {
	for name, page := range map[string]func(*testing.T, int) []Object{
		"people with twenty addresses": func(t *testing.T, n int) (objects []Object) {
			for i := range 40 {
				objects = append(objects, person(t, n*40+i))
			}
			return objects
		},
		"newsletters among people": func(t *testing.T, n int) (objects []Object) {
			for i := range 20 {
				objects = append(objects, person(t, n*20+i))
			}
			return slices.Insert(objects, n*5, newsletter(t, byte(10+n), 150, 12*n))
		},
		"more than a transaction holds": func(t *testing.T, n int) []Object {
			return []Object{person(t, n), newsletter(t, byte(10+n), 500+200*n, 8)}
		},
		"longer than a transaction holds": func(t *testing.T, n int) []Object {
			return []Object{person(t, n), newsletter(t, byte(10+n), 450, 60)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *Store
			commits := 0
			s = open(t, Config{Dir: t.TempDir(), memTable: 1 << 20, afterCommit: func(int) {
				if s != nil && !t.Failed() {
					commits++
					checkSound(t, s)
				}
			}})
			stays := object(t, 1, "stays@x.test")
			var all []Object
			for n := range 3 {
				all = append(all, page(t, n)...)
			}
			pass(t, s, "corp", Full, start, "", stays)
			pass(t, s, "corp", Incremental, start, "", all...)
			pass(t, s, "corp", Full, start, "held", stays) // marks all
			if n, err := s.Discard("corp", start); n != len(all) || err != nil {
				t.Errorf("discarded: %d, %v, want %d", n, err, len(all))
			}
			for i := range all {
				for j := range all[i].Addresses {
					all[i].Addresses[j].InternalOnly = true
				}
			}
			pass(t, s, "corp", Incremental, start, "", all...) // makes all internal-only
			pass(t, s, "corp", Full, start, "", stays)         // releases all
			wantKnown(t, s, "stays@x.test")
			if commits < 12 {
				t.Errorf("it took %d commits: this shows little", commits)
			}
		})
	}
}

// TestDiskFullInAnObject: a page ends with an object of 1,200 addresses, and the disk becomes
// full in the middle of it. The object is deleted before it is read again.
func TestDiskFullInAnObject(t *testing.T) {
	left := -1 // commits that still work; negative means all
	s := open(t, Config{Dir: t.TempDir(), MinFree: 1, FreeSpace: func(string) (uint64, error) {
		if left == 0 {
			return 0, nil
		}
		left = max(left-1, -1)
		return 1 << 30, nil
	}})
	stays := object(t, 1, "stays@x.test")
	pass(t, s, "corp", Full, start, "", stays)
	var people []Object
	for i := range 400 {
		people = append(people, person(t, i))
	}
	page := append(slices.Clone(people), newsletter(t, 7, 1200, 100))
	p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	left = 1
	_, err = p.Apply(page)
	p.Abort()
	left = -1
	if !errors.Is(err, ErrNoSpace) {
		t.Fatalf("the disk was not full where it had to be: this shows nothing (%v)", err)
	}
	checkSound(t, s)
	pass(t, s, "corp", Full, start, "", append(people, stays)...)
	for _, a := range known(t, s) {
		if strings.HasPrefix(a, "ss") {
			t.Fatalf("%s is known, and no object has it", a)
		}
	}
	s = reopen(t, s)
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
}

// TestFailedCommitCountsNothing: no count includes what was not committed.
func TestFailedCommitCountsNothing(t *testing.T) {
	full := false
	s := open(t, Config{Dir: t.TempDir(), MinFree: 1, FreeSpace: func(string) (uint64, error) {
		if full {
			return 0, nil
		}
		return 1 << 30, nil
	}})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@y.test"))
	before := s.totals.Load()
	for _, kind := range []Kind{Incremental, Full} {
		p, err := s.Begin("corp", kind, Origin{Controller: "dc1.corp.example", Started: start})
		if err != nil {
			t.Fatal(err)
		}
		full = true
		if _, err := p.Apply([]Object{object(t, 1), object(t, 3, "c@z.test")}); !errors.Is(err, ErrNoSpace) {
			t.Errorf("apply on a full disk: %v", err)
		}
		full = false
		p.Abort()
		if d := s.Directory("corp"); s.totals.Load() != before || d.Marked != 0 || d.FullPassPending != "" {
			t.Errorf("after a failed %s pass: %+v, totals %+v", kind, d, s.Totals())
		}
	}
	if _, err := s.Begin("other", Full, Origin{Started: start}); err != nil {
		t.Fatal(err)
	}
	checkSound(t, s)
}

// TestRepair: a full pass completes what an earlier version wrote by half. It treats an owner
// without a record like a removal.
func TestRepair(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	people := []Object{object(t, 1, "a@x.test"), object(t, 2, "b@x.test"), object(t, 3, "c@x.test", "d@x.test")}
	pass(t, s, "corp", Full, start, "", people...)
	id, _ := s.directoryID("corp")
	breakIt := func(change func(tx *tx) error) {
		t.Helper()
		if err := errors.Join(s.write(change), s.recountTotals(), s.write(func(tx *tx) error {
			if err := dropDerived(tx); err != nil {
				return err
			}
			return errors.Join(deriveMarks(tx), finishMigration(tx))
		})); err != nil {
			t.Fatal(err)
		}
		if err := s.Recount(); err != nil {
			t.Fatal(err)
		}
	}
	owns := func(a string, guids ...byte) func(*tx) error {
		return func(tx *tx) error {
			record, err := tx.address(a)
			for _, g := range guids {
				record.set(owner{dir: id, guid: GUID{15: g}})
			}
			return errors.Join(err, tx.set(addressKey(a), record.encode()))
		}
	}
	breakIt(owns("orphan@x.test", 2, 9)) // one object that exists, and one that does not
	breakIt(owns("b@x.test", 1))         // one owner too many
	breakIt(func(tx *tx) error { return tx.delete(addressKey("c@x.test")) })
	wantKnown(t, s, "a@x.test", "b@x.test", "d@x.test", "orphan@x.test")

	pass(t, s, "corp", Incremental, start, "", people[2]) // read again: its owner comes back
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test", "d@x.test", "orphan@x.test")

	breakIt(func(tx *tx) error { return tx.delete(addressKey("c@x.test")) })
	people[1].Unsettled = true
	info := pass(t, s, "corp", Full, start, "held", people...)
	if info.Held != 2 { // orphan of 9, b of 1; the object 2 changed while the pass read
		t.Errorf("held: %+v, want 2 addresses", info)
	}
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test", "d@x.test", "orphan@x.test")
	people[1].Unsettled = false
	if info = pass(t, s, "corp", Full, start, "held", people...); info.Held != 3 {
		t.Errorf("held: %+v, want 3 addresses", info)
	}
	checkSound(t, s)
	if info = pass(t, s, "corp", Full, start, "", people...); info.Removed != 3 {
		t.Errorf("released: %+v, want 3 addresses", info)
	}
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test", "d@x.test")
	checkSound(t, s)
}
