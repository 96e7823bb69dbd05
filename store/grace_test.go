package store

import (
	"fmt"
	"testing"
	"time"
)

// TestRepairThatClosesHasGrace: an earlier version wrote half an object that became
// internal-only. The repair of its lookups takes the address from outside senders now, so the
// grace begins now.
func TestRepairThatClosesHasGrace(t *testing.T) {
	for _, kind := range []Kind{Incremental, Full} {
		t.Run(kind.String(), func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			people := []Object{object(t, 1, "!a@x.test"), object(t, 2, "b@x.test")}
			pass(t, s, "corp", Full, start, "", people...)
			id, _ := s.directoryID("corp")
			err := s.write(func(tx *tx) error {
				u := &unit{}
				before, err := tx.address("a@x.test")
				if err != nil {
					return err
				}
				after := addressRecord{owners: []owner{{dir: id, guid: GUID{15: 1}}}} // still open
				u.delta.address("a@x.test", &before, &after)
				u.set(addressKey("a@x.test"), after.encode())
				return tx.add(u)
			})
			if err != nil {
				t.Fatal(err)
			}
			s = reopen(t, s)
			wantKnown(t, s, "a@x.test", "b@x.test")
			later := start.Add(time.Hour)
			pass(t, s, "corp", kind, later, "", people...)
			got := presence(t, s, "a@x.test")
			if !got.InternalOnly || got.Removed.Before(later) {
				t.Errorf("repaired: %+v, want the loss at %v or later", got, later)
			}
			checkSound(t, s)
		})
	}
}

// TestInterruptedDecisionHasGrace: a full disk interrupts a pass right after its decision. The
// addresses stay known, so their grace begins when the decision is completed, in the same
// process or by the next one.
func TestInterruptedDecisionHasGrace(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			left, now := -1, start
			config := Config{Dir: t.TempDir(), MinFree: 1, Now: func() time.Time { return now },
				FreeSpace: func(string) (uint64, error) {
					if left == 0 {
						return 0, nil
					}
					left--
					return 1 << 30, nil
				}}
			s := open(t, config)
			pass(t, s, "corp", Full, now, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"),
				object(t, 3, "c@x.test"))
			now = now.Add(time.Hour)
			p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: now})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Apply([]Object{object(t, 1), object(t, 2, "!b@x.test")}); err != nil {
				t.Fatal(err)
			}
			left = 1 // for the decision
			if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: now}); err == nil {
				t.Fatal("the disk is full, and the pass ended")
			}
			wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test")
			left, now = -1, now.Add(3*time.Hour)
			if restart {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, config)
			}
			pass(t, s, "corp", Incremental, now, "")
			wantKnown(t, s, "!b@x.test", "c@x.test")
			for _, a := range []string{"a@x.test", "b@x.test"} {
				if got := presence(t, s, a); got.Removed.Before(now) {
					t.Errorf("%s: %+v, want the loss at %v", a, got, now)
				}
			}
			checkSound(t, s)
		})
	}
}

// TestHeavyObjectBecomesInternalOnly: an object that no transaction holds is sound after every
// commit of its marks and of their release, in both kinds of mark.
func TestHeavyObjectBecomesInternalOnly(t *testing.T) {
	var s *Store
	config := Config{Dir: t.TempDir(), memTable: 1 << 20, afterCommit: func(int) {
		if s != nil && !t.Failed() {
			checkSound(t, s)
		}
	}}
	s = open(t, config)
	heavy := newsletter(t, 9, 1200, 8)
	pass(t, s, "corp", Full, start, "", heavy, object(t, 1, "a@x.test"))
	closed := heavy
	closed.Addresses = nil
	for _, a := range heavy.Addresses {
		a.InternalOnly = true
		closed.Addresses = append(closed.Addresses, a)
	}
	half := closed
	half.Addresses = closed.Addresses[:700]
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	if info := pass(t, s, "corp", Incremental, hour(1), "too many", closed); info.Held != 1200 {
		t.Errorf("held: %+v", info)
	}
	if info := pass(t, s, "corp", Incremental, hour(2), "too many", half); info.Held != 1200 {
		t.Errorf("held, half of them gone: %+v", info)
	}
	if info := pass(t, s, "corp", Incremental, hour(3), ""); info.Removed != 1200 {
		t.Errorf("released: %+v", info)
	}
	open := 0
	for _, a := range known(t, s) {
		if a[0] != '!' {
			open++
		}
	}
	if open != 1 || s.Totals().Addresses != 701 {
		t.Errorf("%d open of %d", open, s.Totals().Addresses)
	}
	for i := range 1200 {
		if got := presence(t, s, heavy.Addresses[i].Address.String()); !got.Removed.Equal(hour(3).Add(time.Second)) {
			t.Fatalf("%d: %+v", i, got)
		}
	}
}
