package store

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// manyAddresses returns an object with long addresses.
func manyAddresses(t testing.TB, n int) Object {
	o := Object{GUID: GUID{7}, Class: "user", DN: "CN=Newsletter,DC=corp,DC=example"}
	for i := range n {
		text := fmt.Sprintf("%s%d@lists.corp.example", strings.Repeat("subscription-", 4), i)
		o.Addresses = append(o.Addresses, Owned{Address: mustParse(t, text), Attribute: "proxyAddresses"})
	}
	return o
}

// wantNoLargeValues checks that no value goes to the value log.
func wantNoLargeValues(t testing.TB, s *Store) {
	t.Helper()
	err := s.scan(nil, false, func(kv pair) error {
		if len(kv.value) >= valueThreshold/2 {
			t.Errorf("the value of %q has %d bytes", kv.key, len(kv.value))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestObjectInParts: an object whose record and marks take megabytes. Each commit leaves a sound
// store, no value reaches the value log, and one pass marks and one releases all addresses.
func TestObjectInParts(t *testing.T) {
	const n = 15_000
	var s *Store
	watch := false
	s = open(t, Config{Dir: t.TempDir(), afterCommit: func(commit int) {
		if !watch {
			return
		}
		if err := s.Recount(); err != nil {
			t.Errorf("commit %d: %v", commit, err)
		}
	}})
	watch = true
	step := func(name string, kind Kind, at time.Time, controller string, lag time.Duration,
		objects ...Object) PassInfo {
		t.Helper()
		p, err := s.Begin("corp", kind, Origin{Controller: controller, Database: controller, Started: at, Lag: lag})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer p.Abort()
		_, err = p.Apply(objects)
		if kind == Full {
			err = errors.Join(err, p.Sweep())
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: at})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantNoLargeValues(t, s)
		return info
	}
	all, stays := manyAddresses(t, n), object(t, 1, "stays@x.test")
	step("first read", Full, start, "dc1", 0, all, stays)
	if got := s.Totals().Addresses; got != n+1 {
		t.Fatalf("%d addresses, want %d", got, n+1)
	}
	commits := s.writer.commits
	if info := step("nothing new", Full, start.Add(time.Minute), "dc1", 0, all, stays); info.Changed != 0 {
		t.Errorf("an unchanged object was written again in %d commits", s.writer.commits-commits)
	}
	step("marks that wait", Full, start.Add(2*time.Minute), "dc2", time.Hour, stays)
	if d := s.Directory("corp"); d.Marked != 1 || s.Totals().Addresses != n+1 {
		t.Errorf("%d objects with marks, %d addresses", d.Marked, s.Totals().Addresses)
	}
	held := 0
	err := s.HeldRemovals("corp", func(r HeldRemoval) error {
		if held++; held > 10 {
			return errStopScan
		}
		return nil
	})
	if ignoreStop(err) != nil || held != 11 {
		t.Errorf("%d held removals, %v", held, err)
	}
	s = reopen(t, s)
	step("all of them are due", Incremental, start.Add(2*time.Hour), "dc2", time.Hour)
	wantKnown(t, s, "stays@x.test")
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	left := 0
	err = s.scan([]byte(prefixObject), true, func(kv pair) error { left++; return nil })
	if err != nil || left != 1 {
		t.Errorf("%d keys of objects are left, want 1 (%v)", left, err)
	}
}

// TestChangeOfOnePart: a change of one address of a large object writes one part.
func TestChangeOfOnePart(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	all := manyAddresses(t, 5000)
	pass(t, s, "corp", Full, start, "", all)
	id, ok := s.directoryID("corp")
	before, err := s.object(id, all.GUID)
	if !ok || err != nil {
		t.Fatal(err)
	}
	after := before
	after.addresses = append(after.addresses[:17:17], after.addresses[18:]...)
	after = after.arranged(0)
	var u unit
	u.setObject(id, all.GUID, &before, &after)
	if len(u.entries) != 2 || u.bytes > 4096 {
		t.Errorf("%d entries of %d bytes, want a part and the object", len(u.entries), u.bytes)
	}
}

// TestPartsComeAndGo: an object grows into parts and shrinks to one record again; so does one that
// an earlier version stored in one record.
func TestPartsComeAndGo(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	sizes := []int{3, maxInline, maxInline + 1, 3 * maxInline, maxInline + 1, maxInline, 3, 0, 2 * maxInline}
	keys := func() (parts, records int) {
		err := s.scan([]byte(prefixObject), true, func(kv pair) error {
			if isPart(kv.key) {
				parts++
			} else {
				records++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return parts, records
	}
	for i, n := range sizes {
		pass(t, s, "corp", Incremental, start.Add(time.Duration(i)*time.Minute), "", manyAddresses(t, n))
		parts, records := keys()
		if (parts > 0) != (n > maxInline) || (records == 1) != (n > 0) || s.Totals().Addresses != int64(n) {
			t.Errorf("%d addresses: %d parts, %d records, %d are known", n, parts, records, s.Totals().Addresses)
		}
		if err := s.Verify(); err != nil {
			t.Errorf("%d addresses: %v", n, err)
		}
	}
	id, _ := s.directoryID("corp")
	all := manyAddresses(t, 2*maxInline)
	record, err := s.object(id, all.GUID)
	if err != nil {
		t.Fatal(err)
	}
	err = s.write(func(t *tx) error { // as an earlier version wrote it
		whole := record
		whole.split = false
		return t.add(func() *unit {
			var u unit
			u.setObject(id, all.GUID, &record, &whole)
			return &u
		}())
	})
	if parts, _ := keys(); err != nil || parts > 0 {
		t.Fatalf("%d parts, %v", parts, err)
	}
	all.Addresses = all.Addresses[1:]
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", all)
	if parts, _ := keys(); parts == 0 || s.Totals().Addresses != 2*maxInline-1 {
		t.Errorf("%d parts, %d addresses", parts, s.Totals().Addresses)
	}
}

// TestMissingPart: a part that the store does not have is damage, not a loss of its addresses.
func TestMissingPart(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(u *unit, key []byte)
	}{
		{"missing", func(u *unit, key []byte) { u.delete(key) }},
		{"cut", func(u *unit, key []byte) { u.set(key, []byte{recordVersion, 3}) }},
		{"empty", func(u *unit, key []byte) { u.set(key, []byte{recordVersion, 0}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			all := manyAddresses(t, 2*maxInline)
			pass(t, s, "corp", Full, start, "", all)
			id, _ := s.directoryID("corp")
			err := s.write(func(t *tx) error {
				var u unit
				c.change(&u, partKey(id, all.GUID, partOf(all.Addresses[0].Address.String())))
				return t.add(&u)
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Stored("corp", all.GUID); !errors.Is(err, ErrDamaged) {
				t.Errorf("a reader: %v", err)
			}
			p, err := s.Begin("corp", Incremental, Origin{Started: start})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Abort()
			if _, err := p.Apply([]Object{all}); !errors.Is(err, ErrDamaged) {
				t.Errorf("a writer: %v", err)
			}
			if err := s.Recount(); !errors.Is(err, ErrDamaged) {
				t.Errorf("a recount: %v", err)
			}
		})
	}
}

// TestPartsBesideWriters: readers see an object with parts as of one commit.
func TestPartsBesideWriters(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	all := manyAddresses(t, 2000)
	pass(t, s, "corp", Full, start, "", all)
	id, _ := s.directoryID("corp")
	done, readers := make(chan struct{}), sync.WaitGroup{}
	readers.Go(func() {
		for {
			record, err := s.object(id, all.GUID)
			if n := len(record.addresses); err != nil || n != 2000 && n != 1500 {
				t.Errorf("%d addresses, %v", n, err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 20 {
		some := all
		some.Addresses = all.Addresses[500*(i%2):]
		pass(t, s, "corp", Incremental, start.Add(time.Duration(i)*time.Minute), "", some)
	}
	close(done)
	readers.Wait()
}

// TestPartKeys: parts sort behind their object and before the next one.
func TestPartKeys(t *testing.T) {
	object, next := objectKey(1, GUID{1}), objectKey(1, GUID{1, 15: 1})
	for _, part := range []byte{0, 1, 255} {
		key := partKey(1, GUID{1}, part)
		if !isPart(key) || isPart(object) || bytes.Compare(object, key) >= 0 || bytes.Compare(key, next) >= 0 {
			t.Errorf("key of part %d: %x", part, key)
		}
	}
}
