package store

import (
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
