package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

func TestWhyFull(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one, two := directory.GUID{1}, directory.GUID{2}
	for _, c := range []struct {
		name   string
		change func(*situation)
		want   string // part of it; empty: incremental
	}{
		{"all is well", func(*situation) {}, ""},
		{"never read", func(s *situation) { s.stored = store.Directory{} }, "nothing has been read"},
		{"no cursor", func(s *situation) { s.stored.Cursor = nil }, "no cursor"},
		{"a cursor nobody can read", func(s *situation) { s.stored.Cursor = []byte("{") }, "no cursor"},
		{"other rules", func(s *situation) { s.fingerprint = "new" }, "rules"},
		{"another controller", func(s *situation) { s.root.InvocationID, s.root.DNSHostName = two, "dc2" },
			"another domain controller than before (dc1)"},
		{"a restored controller", func(s *situation) { s.root.InvocationID = two }, "new invocationId"},
		{"a full pass was broken off", func(s *situation) { s.stored.FullPassPending = "periodic" }, "interrupted (periodic)"},
		{"set back", func(s *situation) { s.root.HighestCommittedUSN = 99 }, "set back"},
		{"no news", func(s *situation) { s.root.HighestCommittedUSN = 100 }, ""},
		{"too long ago", func(s *situation) {
			s.stored.LastIncremental.Started = now.Add(-8 * 24 * time.Hour)
			s.stored.LastFull.Started = now.Add(-8 * 24 * time.Hour)
			s.fullInterval = 365 * 24 * time.Hour
		}, "too long ago"},
		{"periodic", func(s *situation) { s.fullInterval = time.Hour }, "periodic"},
		{"periodic, the clock was set back",
			func(s *situation) { s.stored.LastFull.Started = now.Add(25 * time.Hour) }, "periodic"},
		{"the clock was set back a little",
			func(s *situation) { s.stored.LastIncremental.Started = now.Add(time.Second) }, ""},
		{"blind", func(s *situation) { s.root.DeletedVisible = false }, "deleted objects"},
		{"blind, and just read", func(s *situation) {
			s.root.DeletedVisible = false
			s.stored.LastFull.Started = now.Add(-time.Minute)
		}, ""},
		{"blind, and a full pass takes long", func(s *situation) {
			s.root.DeletedVisible = false
			s.stored.LastFull.Started = now.Add(-25 * time.Minute)
			s.stored.LastFull.Ended = now.Add(-10 * time.Minute)
		}, ""},
		{"blind, and a full pass took long", func(s *situation) {
			s.root.DeletedVisible = false
			s.stored.LastFull.Started = now.Add(-30 * time.Minute)
			s.stored.LastFull.Ended = now.Add(-15 * time.Minute)
		}, "deleted objects"},
		{"the clock stepped while a full pass ran", func(s *situation) {
			s.stored.LastFull.Started = now.Add(-25 * time.Hour)
			s.stored.LastFull.Ended = now.Add(10 * 365 * 24 * time.Hour)
		}, "periodic"},
		{"periodic, and a full pass takes as long", func(s *situation) {
			s.fullInterval = time.Hour
			s.stored.LastFull.Started, s.stored.LastFull.Ended = now.Add(-61*time.Minute), now
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cursor, err := cursor{InvocationID: one, USN: 100, Host: "dc1"}.encode()
			if err != nil {
				t.Fatal(err)
			}
			s := situation{now: now, fullInterval: 24 * time.Hour, fingerprint: "rules",
				root: directory.Root{InvocationID: one, HighestCommittedUSN: 120, DNSHostName: "dc1",
					DeletedVisible: true},
				stored: store.Directory{Cursor: cursor, Fingerprint: "rules",
					LastFull:        store.PassInfo{Number: 1, Started: now.Add(-2 * time.Hour)},
					LastIncremental: store.PassInfo{Number: 2, Started: now.Add(-time.Minute)}}}
			c.change(&s)
			if got := whyFull(s); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("whyFull = %q, want %q", got, c.want)
			}
		})
	}
}

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
	if got := decodeCursor(encoded); err != nil || got != back {
		t.Errorf("cursor %+v becomes %+v, %v", back, got, err)
	}
}

// TestSetBackBelowWhatWasRead: a full pass reads changes beyond its cursor. A database that
// is set back to a point in between no longer shows those changes.
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
	if !w.knows("late@corp.example") { // a partner may have it
		t.Error("addresses of the lost database are removed at once")
	}
	w.advance(4 * time.Hour)
	w.pass(store.Incremental)
	w.wantEqual()
}
