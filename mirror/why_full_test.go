package mirror

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
	"rcpt-milter/store"
)

func TestWhyFull(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one, two := directory.GUID{1}, directory.GUID{2}
	for _, c := range []struct {
		name   string
		change func(*situation)
		want   string // part of the reason; empty means an incremental pass
	}{
		{"all is well", func(*situation) {}, ""},
		{"never read", func(s *situation) { s.stored = store.Directory{} }, "nothing has been read"},
		{"no cursor", func(s *situation) { s.stored.Cursor = nil }, "no cursor"},
		{"a cursor nobody can read", func(s *situation) { s.stored.Cursor = []byte("{") }, "no cursor"},
		{"other rules", func(s *situation) { s.fingerprint = "new" }, "rules"},
		{"another controller", func(s *situation) { s.root.InvocationID, s.root.DNSHostName = two, "dc2" },
			"another domain controller than before (dc1)"},
		{"a restored controller", func(s *situation) { s.root.InvocationID = two }, "new invocationId"},
		{"a full pass was broken off", func(s *situation) { s.stored.FullPassPending = "periodic" },
			"interrupted (periodic)"},
		{"a store in doubt", func(s *situation) { s.stored.Doubt = "opened at an older state" }, "older state"},
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
		{"periodic, the clock was set back to before the full pass",
			func(s *situation) { s.stored.LastFull.Started = now.Add(time.Hour) }, "periodic"},
		{"periodic, the clock was set back to a little before the full pass",
			func(s *situation) { s.stored.LastFull.Started = now.Add(clock.Slack / 2) }, ""},
		{"the clock was set back by weeks",
			func(s *situation) { s.stored.LastIncremental.Started = now.Add(8 * 24 * time.Hour) }, ""},
		{"the clock was set back before an incremental pass", func(s *situation) {
			at := decodeCursor(s.stored.Cursor)
			at.AgeUnknown = true
			s.stored.Cursor, _ = at.encode()
		}, "clock was set back"},
		{"too long ago by a clock that does not tell", func(s *situation) {
			s.stored.LastIncremental.Started, s.stored.LastGoodDoubted = now.Add(-8*24*time.Hour), true
		}, ""},
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
			if got := cmp.Or(mustFull(s), dueFull(s)); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("reason = %q, want %q", got, c.want)
			}
		})
	}
}

func TestDueAndMust(t *testing.T) {
	w := dueWorld(t, nil)
	stored := w.store.Directory("corp")
	at := decodeCursor(stored.Cursor)
	s := situation{stored: stored, fingerprint: w.mirror.fingerprint, fullInterval: 24 * time.Hour, now: w.now(),
		root: directory.Root{InvocationID: at.InvocationID, DNSHostName: at.Host, HighestCommittedUSN: at.USN,
			DeletedVisible: true}}
	if must, due := mustFull(s), dueFull(s); must != "" || due == "" {
		t.Errorf("must %q, due %q", must, due)
	}
	s.stored.FullPassPending = "periodic"
	if must := mustFull(s); must == "" {
		t.Errorf("an owed one: must %q", must)
	}
}
