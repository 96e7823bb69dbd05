package store

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// presence returns the answer of Lookup.
func presence(t testing.TB, s *Store, a string) Presence {
	t.Helper()
	got, err := s.Lookup(mustParse(t, a))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestInternalOnly: an address that becomes internal-only is open until its mark is released.
// Then it is lost to outside senders, and it opens again at once.
func TestInternalOnly(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	pass(t, s, "corp", Full, hour(0), "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"),
		object(t, 3, "!new@x.test"))
	if got := presence(t, s, "new@x.test"); got != (Presence{Known: true, InternalOnly: true}) {
		t.Errorf("internal-only from the start: %+v", got)
	}
	info := pass(t, s, "corp", Incremental, hour(1), "too many", object(t, 1, "!a@x.test"))
	if info.Held != 1 || info.Removed != 0 || presence(t, s, "a@x.test") != (Presence{Known: true}) {
		t.Errorf("held: %+v", info)
	}
	var held []HeldRemoval
	visit := func(h HeldRemoval) error { held = append(held, h); return nil }
	if err := s.HeldRemovals("corp", visit); err != nil || len(held) != 1 || !held[0].BecomesInternalOnly ||
		!held[0].Last {
		t.Errorf("held: %+v, %v", held, err)
	}
	if d, err := s.Describe(mustParse(t, "a@x.test")); err != nil || !d.Owners[0].BecomesInternalOnly ||
		d.Owners[0].Gone || d.Owners[0].InternalOnly {
		t.Errorf("the owner: %+v, %v", d.Owners, err)
	}
	if got, err := s.Stored("corp", GUID{15: 1}); err != nil || !got.Addresses[0].BecomesInternalOnly ||
		got.Addresses[0].Gone {
		t.Errorf("stored: %+v, %v", got, err)
	}
	checkSound(t, s)

	s = reopen(t, s)
	if n, err := s.Discard("corp", hour(2)); n != 1 || err != nil {
		t.Errorf("discard: %d, %v", n, err)
	}
	wantKnown(t, s, "a@x.test", "b@x.test", "!new@x.test")
	pass(t, s, "corp", Full, hour(3), "too many", object(t, 1, "!a@x.test"), object(t, 2, "b@x.test"),
		object(t, 3, "!new@x.test"))
	wantKnown(t, s, "a@x.test", "b@x.test", "!new@x.test")
	if info, err := approveHeld(s, "corp", s.Directory("corp").Newest().Number, hour(4)); err != nil ||
		info.Removed != 1 {
		t.Errorf("approval: %+v, %v", info, err)
	}
	if got := presence(t, s, "a@x.test"); got != (Presence{Known: true, InternalOnly: true, Removed: hour(4)}) {
		t.Errorf("approved: %+v", got)
	}
	checkSound(t, s)

	info = pass(t, s, "corp", Incremental, hour(5), "", object(t, 1, "!a@x.test"))
	if info.Changed != 0 || presence(t, s, "a@x.test").Removed != hour(4) {
		t.Errorf("the same again: %+v", info)
	}
	p, err := s.Begin("corp", Incremental, Origin{Started: hour(6)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 1, "a@x.test")}); err != nil {
		t.Fatal(err)
	}
	if got := presence(t, s, "a@x.test"); got != (Presence{Known: true}) {
		t.Errorf("open before the pass has ended: %+v", got)
	}
	p.Abort()
	wantEvents(t, s, "a@x.test", "- outside", "+ outside")
	checkSound(t, s)
}

// wantEvents compares the history of an address, one text for each event.
func wantEvents(t *testing.T, s *Store, a string, want ...string) {
	t.Helper()
	events, err := s.History(mustParse(t, a))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range events {
		text := "-"
		if e.Added {
			text = "+"
		}
		if e.OutsideOnly {
			text += " outside"
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		t.Errorf("history of %s: %q, want %q", a, got, want)
	}
}

// TestInternalOnlyWithSeveralOwners: outside senders lose an address with its last open owner,
// whether that owner becomes internal-only or goes.
func TestInternalOnlyWithSeveralOwners(t *testing.T) {
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	for name, last := range map[string][]string{"closed": {"!a@x.test"}, "gone": nil} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, hour(0), "", object(t, 1, "a@x.test"), object(t, 2, "a@x.test"))
			pass(t, s, "lab", Full, hour(0), "", object(t, 1, "a@x.test"))
			pending := func(dir string, objects ...Object) Pending {
				t.Helper()
				p, err := s.Begin(dir, Incremental, Origin{Started: hour(1)})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Abort()
				if _, err := p.Apply(objects); err != nil {
					t.Fatal(err)
				}
				got, err := p.Pending()
				if err != nil {
					t.Fatal(err)
				}
				lost, err := p.WouldLose(mustParse(t, "a@x.test"))
				if err != nil || lost != (got.Last["x.test"] == 1) {
					t.Errorf("loses: %t, %v, with %+v", lost, err, got)
				}
				return got
			}
			if got := pending("corp", object(t, 1, "!a@x.test"), object(t, 2)); got.Owned != 2 || got.Addresses() != 0 {
				t.Errorf("the other directory has it: %+v", got)
			}
			pass(t, s, "lab", Incremental, hour(1), "", object(t, 1, "!a@x.test"))
			pass(t, s, "corp", Incremental, hour(1), "", object(t, 2))
			wantKnown(t, s, "a@x.test")
			if got := pending("corp", object(t, 1, last...)); got.Owned != 1 || got.Addresses() != 1 {
				t.Errorf("the last open one: %+v", got)
			}
			info := pass(t, s, "corp", Incremental, hour(2), "", object(t, 1, last...))
			if got := presence(t, s, "a@x.test"); got != (Presence{Known: true, InternalOnly: true,
				Removed: info.Ended}) {
				t.Errorf("closed: %+v", got)
			}
			for domain, want := range map[string]Lost{"x.test": {1, 1}} {
				got, err := s.LostSince(hour(0), hour(3), []string{domain})
				if err != nil || got[domain] != want {
					t.Errorf("lost: %+v, %v, want %+v", got, err, want)
				}
			}
			if got, err := s.LostBy("corp", hour(3), hour(4)); err != nil || got != (Lost{}) {
				t.Errorf("lost later: %+v, %v", got, err)
			}
			checkSound(t, s)
		})
	}
}

// TestInternalOnlyBeforeRemoval: the removal of an address that becomes internal-only replaces
// its mark, and is evaluated from now. The reverse holds too.
func TestInternalOnlyBeforeRemoval(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	held := func() (all []HeldRemoval) {
		t.Helper()
		if err := s.HeldRemovals("corp", func(h HeldRemoval) error {
			all = append(all,
				h)
			return nil
		}); err != nil || len(all) != 1 {
			t.Fatalf("held: %+v, %v", all, err)
		}
		return all
	}
	pass(t, s, "corp", Full, hour(0), "", object(t, 1, "a@x.test"))
	one := pass(t, s, "corp", Incremental, hour(1), "too many", object(t, 1, "!a@x.test"))
	two := pass(t, s, "corp", Incremental, hour(2), "too many", object(t, 1))
	if h := held()[0]; h.BecomesInternalOnly || h.Pass != two.Number {
		t.Errorf("gone: %+v", h)
	}
	three := pass(t, s, "corp", Incremental, hour(3), "too many", object(t, 1, "!a@x.test"))
	if h := held()[0]; !h.BecomesInternalOnly || h.Pass != three.Number || three.Number <= one.Number {
		t.Errorf("back, internal-only: %+v", h)
	}
	checkSound(t, s)
	pass(t, s, "corp", Incremental, hour(4), "", object(t, 1, "a@x.test"))
	if s.Directory("corp").Marked != 0 {
		t.Error("open again, it is still marked")
	}
	wantKnown(t, s, "a@x.test")
	wantEvents(t, s, "a@x.test")
	// An address that was removed and comes back internal-only was lost when it was removed.
	gone := pass(t, s, "corp", Incremental, hour(5), "", object(t, 1))
	pass(t, s, "corp", Incremental, hour(6), "", object(t, 1, "!a@x.test"))
	if got := presence(t, s, "a@x.test"); got != (Presence{Known: true, InternalOnly: true, Removed: gone.Ended}) {
		t.Errorf("removed, and back internal-only: %+v", got)
	}
}

// TestInternalOnlyWaits: the mark waits like a removal for another database that showed the
// address open, and for another directory that may own it.
func TestInternalOnlyWaits(t *testing.T) {
	const lag = time.Hour
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	s := open(t, Config{Dir: t.TempDir()})
	read := func(database string, kind Kind, at time.Time, shared time.Duration, objects ...Object) PassInfo {
		t.Helper()
		p, err := s.Begin("corp", kind, Origin{Controller: database, Database: database, Started: at, Lag: lag,
			HandoverLag: func(string) time.Duration { return shared }})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		for i := range objects {
			objects[i].Read = at
		}
		if _, err := p.Apply(objects); err != nil {
			t.Fatal(err)
		}
		info, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: at})
		if err != nil {
			t.Fatal(err)
		}
		checkSound(t, s)
		return info
	}
	read("one", Full, hour(0), 0, object(t, 1, "a@x.test"))
	read("two", Full, hour(1), 0, object(t, 1, "!a@x.test"))
	wantKnown(t, s, "!a@x.test")                            // "one" was last read a lag ago
	read("one", Full, hour(3), 0, object(t, 1, "a@x.test")) // opened there
	wantKnown(t, s, "a@x.test")
	if info := read("two", Full, hour(3).Add(time.Minute), 0, object(t, 1, "!a@x.test")); info.Removed+info.Held != 0 {
		t.Errorf("right after it was open elsewhere: %+v", info)
	}
	wantKnown(t, s, "a@x.test")
	if info := read("two", Incremental, hour(3).Add(lag), 0); info.Removed != 1 {
		t.Errorf("after the lag: %+v", info)
	}
	wantKnown(t, s, "!a@x.test")

	read("two", Incremental, hour(6), 0, object(t, 1, "a@x.test"))
	read("two", Incremental, hour(9), 2*time.Hour, object(t, 1, "!a@x.test"))
	wantKnown(t, s, "a@x.test") // another directory may own it
	read("two", Incremental, hour(10), 2*time.Hour)
	wantKnown(t, s, "a@x.test")
	read("two", Incremental, hour(11), 2*time.Hour)
	wantKnown(t, s, "!a@x.test")
}

// TestInternalOnlyOfHeldDomains: the held domain stays open, the other one becomes
// internal-only.
func TestInternalOnlyOfHeldDomains(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "a@y.test"))
	p, err := s.Begin("corp", Incremental, Origin{Started: start.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 1, "!a@x.test", "!a@y.test")}); err != nil {
		t.Fatal(err)
	}
	info, err := p.Commit(Outcome{Ended: start.Add(time.Hour), Hold: "too many",
		HoldDomains: []HeldDomain{{"y.test", "too many"}}})
	if err != nil || info.Removed != 1 || info.Held != 1 {
		t.Errorf("commit: %+v, %v", info, err)
	}
	wantKnown(t, s, "!a@x.test", "a@y.test")
	checkSound(t, s)
}

// TestInternalOnlyIsVerified: a recount checks these marks on both sides.
func TestInternalOnlyIsVerified(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	pass(t, s, "corp", Incremental, start, "too many", object(t, 1, "!a@x.test"))
	id, _ := s.directoryID("corp")
	kept := s.totals.Load().dirs[id]
	sum := sumOfOwnership(GUID{15: 1}, "a@x.test", false)
	want := dirCounts{owned: 1, marked: 1, leaving: 1, due: 1, objects: 1, ownerships: 1,
		inRecords: sum, inLookups: sum}
	d := cmp.Diff(want, kept.dirCounts, cmp.AllowUnexported(want, ownershipSum{}))
	if d != "" || kept.last.of("x.test") != 1 {
		t.Errorf("counts (-want +got):\n%s", d)
	}
	err := s.write(func(t *tx) error {
		r := addressRecord{owners: []owner{{dir: id, guid: GUID{15: 1}}}} // without the mark
		return t.set(addressKey("a@x.test"), r.encode())
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Recount(); err == nil {
		t.Error("lookups do not know of the mark, and a recount finds that right")
	}
}
