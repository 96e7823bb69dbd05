package store

import (
	"fmt"
	"testing"
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
			id, _ := s.directoryID("corp")
			if !s.state.dirs["corp"].ownersMatch {
				t.Fatal("lookups are still read in full passes: this shows nothing")
			}
			err := s.write(func(tx *tx) error {
				record, err := tx.address("b@x.test")
				if err != nil {
					return err
				}
				record.set(owner{dir: id, guid: GUID{15: 1}})
				if err := tx.set(addressKey("b@x.test"), record.encode()); err != nil {
					return err
				}
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
