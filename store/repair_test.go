package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRepairAfterASweepThatAgreed: a full pass that reads no lookups of unchanged objects
// still finds missing and surplus owners at its end, in the same process and after a restart.
func TestRepairAfterASweepThatAgreed(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			people := []Object{object(t, 1, "a@x.test"), object(t, 2, "b@x.test")}
			pass(t, s, "corp", Full, start, "", people...)
			pass(t, s, "corp", Full, start, "", people...)
			if !s.state.dirs["corp"].ownersMatch {
				t.Fatal("lookups are still read in full passes: this shows nothing")
			}
			breakOwner(t, s, "b@x.test", GUID{15: 1}, ownerFlags{})
			err := s.write(func(tx *tx) error {
				u := &unit{}
				gone, err := tx.address("a@x.test")
				u.delta.address("a@x.test", &gone, &addressRecord{})
				u.delete(addressKey("a@x.test"))
				if err != nil {
					return err
				}
				return tx.add(u)
			})
			if err != nil {
				t.Fatal(err)
			}
			if restart {
				s = reopen(t, s)
			}
			wantKnown(t, s, "b@x.test")
			if info := pass(t, s, "corp", Full, start, "", people...); info.Removed != 1 {
				t.Errorf("removed %d, want the owner without record", info.Removed)
			}
			wantKnown(t, s, "a@x.test", "b@x.test")
			checkSound(t, s)
		})
	}
}

// breakOwner gives an address an owner, or changes the flags of one, as an earlier version could
// have left it. The object's record does not change.
func breakOwner(t testing.TB, s *Store, a string, guid GUID, f ownerFlags) {
	t.Helper()
	id, _ := s.directoryID("corp")
	err := s.write(func(tx *tx) error {
		before, err := tx.address(a)
		if err != nil {
			return err
		}
		after := before
		after.owners = slices.Clone(before.owners)
		after.set(owner{id, guid, f})
		u := &unit{}
		u.delta.address(a, &before, &after)
		u.set(addressKey(a), after.encode())
		return tx.add(u)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lossesOf returns the journal rows of the losses of an address.
func lossesOf(t testing.TB, s *Store, a string) (rows []Event) {
	t.Helper()
	events, err := s.History(mustParse(t, a))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if !e.Added {
			rows = append(rows, e)
		}
	}
	return rows
}

// TestRepairTakesNothingAway: a lookup has an address open, and the record of its object has it
// internal-only or not at all. A repair that takes the address from outside senders is held,
// counted and journaled like any removal.
func TestRepairTakesNothingAway(t *testing.T) {
	for name, c := range map[string]struct {
		stored, read []Object
		onlyFull     bool
		left         []string // at the end
	}{
		"the record is internal-only": {[]Object{object(t, 1, "!a@x.test", "b@x.test")},
			[]Object{object(t, 1, "!a@x.test", "b@x.test")}, false, []string{"!a@x.test", "b@x.test"}},
		"the record does not have it, and it is read as internal-only": {[]Object{object(t, 1, "b@x.test")},
			[]Object{object(t, 1, "!a@x.test", "b@x.test")}, false, []string{"!a@x.test", "b@x.test"}},
		"there is no record, and it is read as internal-only": {[]Object{object(t, 2, "b@x.test")},
			[]Object{object(t, 1, "!a@x.test"), object(t, 2, "b@x.test")}, false, []string{"!a@x.test", "b@x.test"}},
		"the record is internal-only, and the address is gone": {[]Object{object(t, 1, "!a@x.test", "b@x.test")},
			[]Object{object(t, 1, "b@x.test")}, false, []string{"b@x.test"}},
		"the record is internal-only, and the object is gone": {
			[]Object{object(t, 1, "!a@x.test"), object(t, 2, "b@x.test")}, []Object{object(t, 2, "b@x.test")}, true,
			[]string{"b@x.test"}},
		"the record does not have it, nor has the directory": {[]Object{object(t, 1, "b@x.test")},
			[]Object{object(t, 1, "b@x.test")}, true, []string{"b@x.test"}},
		"there is no record, nor an object": {[]Object{object(t, 2, "b@x.test")},
			[]Object{object(t, 2, "b@x.test")}, true, []string{"b@x.test"}},
	} {
		for _, kind := range []Kind{Incremental, Full} {
			for _, restart := range []bool{false, true} {
				if c.onlyFull && kind == Incremental {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, restart %t", name, kind, restart), func(t *testing.T) {
					var log bytes.Buffer
					s := open(t, Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))})
					pass(t, s, "corp", Full, start, "", c.stored...)
					pass(t, s, "corp", Full, start, "", c.stored...)
					breakOwner(t, s, "a@x.test", GUID{15: 1}, ownerFlags{})
					if restart {
						s = reopen(t, s)
					}
					for i := range 2 {
						at := start.Add(time.Duration(i+1) * time.Minute)
						info := pass(t, s, "corp", kind, at, "held", c.read...)
						if info.Held != 1 || info.Removed != 0 {
							t.Errorf("the pass that holds: %+v, want 1 held", info)
						}
						wantKnown(t, s, "a@x.test", "b@x.test")
						if rows := lossesOf(t, s, "a@x.test"); len(rows) > 0 {
							t.Errorf("journal before the release: %+v", rows)
						}
						checkSound(t, s)
						if named := strings.Contains(log.String(), "addresses=1") ||
							strings.Contains(log.String(), "owners_without_record=1"); named != (i == 0) {
							t.Errorf("pass %d logs %q", i, log.String())
						}
						log.Reset()
					}
					if info := pass(t, s, "corp", kind, start.Add(time.Hour), "", c.read...); info.Removed != 1 {
						t.Errorf("the pass that releases: %+v, want 1 removed", info)
					}
					wantKnown(t, s, c.left...)
					if rows := lossesOf(t, s, "a@x.test"); len(rows) != 1 {
						t.Errorf("journal after the release: %+v, want one loss", rows)
					}
					checkSound(t, s)
				})
			}
		}
	}
}

// TestRepairOfAnUnsettledObject: what a full pass cannot judge yet stays open, without a mark.
func TestRepairOfAnUnsettledObject(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	o := object(t, 1, "!a@x.test", "b@x.test")
	pass(t, s, "corp", Full, start, "", o)
	breakOwner(t, s, "a@x.test", GUID{15: 1}, ownerFlags{})
	o.Unsettled = true
	if info := pass(t, s, "corp", Full, start, "", o); info.Removed+info.Held != 0 {
		t.Errorf("the pass: %+v", info)
	}
	wantKnown(t, s, "a@x.test", "b@x.test")
	checkSound(t, s)
	o.Unsettled = false
	if info := pass(t, s, "corp", Incremental, start, "", o); info.Removed != 1 {
		t.Errorf("the next pass: %+v, want 1 removed", info)
	}
	wantKnown(t, s, "!a@x.test", "b@x.test")
}

// TestDueMarkTakesNothingAway: a mark whose time has come changes the flags of a lookup, and must
// not close what the lookup has open.
func TestDueMarkTakesNothingAway(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "!a@x.test", "b@x.test"))
	incremental := func(database string, at time.Time, hold string, objects ...Object) PassInfo {
		t.Helper()
		p, err := s.Begin("corp", Incremental, Origin{Controller: "dc", Database: database, Started: at,
			Lag: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		if _, err := p.Apply(objects); err != nil {
			t.Fatal(err)
		}
		info, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: at, Hold: hold})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	incremental("other", start.Add(time.Minute), "", object(t, 1, "!a@x.test", "b@x.test"))
	incremental("first", start.Add(2*time.Minute), "", object(t, 1, "b@x.test"))
	breakOwner(t, s, "a@x.test", GUID{15: 1}, ownerFlags{})
	if info := incremental("first", start.Add(3*time.Hour), "held"); info.Held != 1 {
		t.Fatalf("the mark is not due: %+v", info)
	}
	wantKnown(t, s, "a@x.test", "b@x.test")
	if rows := lossesOf(t, s, "a@x.test"); len(rows) > 0 {
		t.Errorf("journal: %+v", rows)
	}
	if info := incremental("first", start.Add(4*time.Hour), ""); info.Removed != 1 {
		t.Errorf("the release: %+v", info)
	}
	wantKnown(t, s, "b@x.test")
}
