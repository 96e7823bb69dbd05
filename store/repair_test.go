package store

import "testing"

// TestMendAfterASweepThatAgreed: a full pass that reads no look-ups of unchanged objects
// still finds at its end what is missing or too much, in the same process and after a restart.
func TestMendAfterASweepThatAgreed(t *testing.T) {
	for _, restart := range []bool{false, true} {
		s := open(t, Config{Dir: t.TempDir()})
		people := []Object{object(t, 1, "a@x.test"), object(t, 2, "b@x.test")}
		pass(t, s, "corp", Full, start, "", people...)
		pass(t, s, "corp", Full, start, "", people...)
		id, _ := s.directoryID("corp")
		if !s.state.dirs["corp"].ownersMatch {
			t.Fatal("look-ups are still read in full passes: this shows nothing")
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
			t.Errorf("restart %v: removed %d, want the owner that has no record", restart, info.Removed)
		}
		wantKnown(t, s, "a@x.test", "b@x.test")
		checkSound(t, s)
	}
}
