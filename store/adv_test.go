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
			pass(t, s, "corp", Full, now, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"), object(t, 3, "c@x.test"))
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
