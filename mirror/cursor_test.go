package mirror

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

func TestCursorOfADatabaseSetBack(t *testing.T) {
	at := cursor{InvocationID: directory.GUID{1}, USN: 100, Host: "dc1"}
	on := at.next(directory.Root{InvocationID: directory.GUID{1}, HighestCommittedUSN: 120}, store.Incremental)
	back := on.next(directory.Root{InvocationID: directory.GUID{1}, HighestCommittedUSN: 50}, store.Incremental)
	later := back.next(directory.Root{InvocationID: directory.GUID{1}, HighestCommittedUSN: 60}, store.Incremental)
	other := back.next(directory.Root{InvocationID: directory.GUID{2}, HighestCommittedUSN: 10}, store.Incremental)
	if on.database() != at.database() || back.database() == at.database() || later.database() != back.database() ||
		other.Epoch != 0 {
		t.Errorf("databases %q, %q, %q, %q, %q", at.database(), on.database(), back.database(), later.database(),
			other.database())
	}
	encoded, err := back.encode()
	if got := decodeCursor(encoded); err != nil || !reflect.DeepEqual(got, back) {
		t.Errorf("cursor %+v becomes %+v, %v", back, got, err)
	}
}

// TestSetBackBelowWhatWasRead sets a database back to a point after the cursor. A full pass reads changes
// beyond its cursor, and the database no longer shows all of them.
func TestSetBackBelowWhatWasRead(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 6 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	var old *adsim.Snapshot
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if onlyFull(s) && s.Page == 2 {
			w.user("Early", "early@corp.example")
			old = w.d.Snapshot()
			w.user("Late", "late@corp.example")
		}
	}})
	w.pass(store.Full)
	w.server.SetFaults(adsim.Faults{})
	if !w.knows("late@corp.example") {
		t.Fatal("the full pass did not read the changes")
	}
	w.d.Restore(old)
	if info := w.pass(store.Full); info.Why != reasonSetBack {
		t.Errorf("full pass because %q", info.Why)
	}
	if !w.knows("late@corp.example") { // another controller may have it
		t.Error("addresses of the lost database are removed at once")
	}
	w.advance(4 * time.Hour)
	w.pass(store.Incremental)
	w.wantEqual()
}
