package store

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// approveHeld approves under the rules of the last full pass.
func approveHeld(s *Store, dir string, upTo uint64, at time.Time) (PassInfo, error) {
	return s.Approve(dir, upTo, s.Directory(dir).Fingerprint, at)
}

func TestHeldRemovals(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "c@y.test"))
	info := pass(t, s, "corp", Full, start, "too many", object(t, 1, "a@x.test", "new@x.test"))
	if info.Held != 2 || info.Removed != 0 || info.Added != 1 {
		t.Errorf("held pass: %+v", info)
	}
	wantKnown(t, s, "a@x.test", "b@x.test", "c@y.test", "new@x.test")
	s = reopen(t, s)
	if d := s.Directory("corp"); d.Marked != 2 {
		t.Errorf("%d objects marked after opening again, want 2", d.Marked)
	}
	info = pass(t, s, "corp", Incremental, start, "still", object(t, 2, "c@y.test"))
	if info.Held != 1 {
		t.Errorf("c@y.test came back: %+v", info)
	}
	info = pass(t, s, "corp", Incremental, start, "")
	if info.Removed != 1 {
		t.Errorf("released later: %+v", info)
	}
	wantKnown(t, s, "a@x.test", "c@y.test", "new@x.test")
}

// wantHeld compares what waits, with a note at last owners.
func wantHeld(t *testing.T, s *Store, dir string, pass uint64, want ...string) {
	t.Helper()
	var got []string
	err := s.HeldRemovals(dir, func(h HeldRemoval) error {
		text := fmt.Sprintf("%s of %d", h.Address, h.GUID[15])
		if h.Last {
			text += ", the last"
		}
		if h.Pass != pass || h.Class != "user" || h.DN == "" || h.Since.IsZero() {
			t.Errorf("held: %+v", h)
		}
		got = append(got, text)
		return nil
	})
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("held in %s: %v (-want +got):\n%s", dir, err, d)
	}
}

// TestTombstoneKeepsTheName: a waiting removal has the name where the object lived.
func TestTombstoneKeepsTheName(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	stone := Object{GUID: GUID{15: 1}, Class: "user", DN: `CN=1\0ADEL:0f,CN=Deleted Objects,DC=corp,DC=example`,
		Deleted: true}
	pass(t, s, "corp", Incremental, start, "held", stone)
	err := s.HeldRemovals("corp", func(h HeldRemoval) error {
		if h.DN != "CN=1,DC=corp,DC=example" {
			t.Errorf("held: %+v", h)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLastOwner: which objects keep an address, in the same or another directory, and what a
// running pass marks.
func TestLastOwner(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "one@x.test", "two@x.test", "three@x.test", "four@x.test"),
		object(t, 2, "two@x.test"), object(t, 3, "three@x.test"))
	pass(t, s, "lab", Full, start, "", object(t, 1, "four@x.test"))
	held := pass(t, s, "corp", Full, start, "too many", object(t, 2, "two@x.test"))
	wantHeld(t, s, "corp", held.Number, "one@x.test of 1, the last", "two@x.test of 1", "three@x.test of 1, the last",
		"four@x.test of 1", "three@x.test of 3, the last")
	wantHeld(t, s, "lab", 0)
	wantHeld(t, s, "nowhere", 0)
	p, err := s.Begin("corp", Incremental, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if _, err := p.Apply([]Object{object(t, 2), object(t, 3, "three@x.test")}); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, s, "corp", held.Number, "one@x.test of 1, the last", "two@x.test of 1, the last", "three@x.test of 1",
		"four@x.test of 1")
	enough := errors.New("enough")
	if err := s.HeldRemovals("corp", func(HeldRemoval) error { return enough }); err != enough {
		t.Errorf("Held with an error of the visitor: %v", err)
	}
}

func TestApproveAndDiscard(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "c@y.test", "a@x.test"))
	held := pass(t, s, "corp", Full, start.Add(time.Minute), "too many", object(t, 1, "b@x.test"))
	wantHeld(t, s, "corp", held.Number, "a@x.test of 1, the last", "c@y.test of 2, the last", "a@x.test of 2, the last")
	if got := s.Directory("corp"); got.Hold != "too many" || got.Owned != 4 {
		t.Errorf("directory with held removals: %+v", got)
	}
	if n, err := s.Discard("corp", start.Add(time.Hour)); n != 2 || err != nil {
		t.Errorf("discard: %d, %v", n, err)
	}
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "")
	wantKnown(t, s, "a@x.test", "b@x.test", "c@y.test")

	pass(t, s, "corp", Full, start.Add(2*time.Hour), "too many", object(t, 1, "b@x.test"))
	s = reopen(t, s)
	cursor := string(s.Directory("corp").Cursor)
	info, err := approveHeld(s, "corp", math.MaxUint64, start.Add(3*time.Hour))
	if err != nil || info.Removed != 3 || !info.Approved {
		t.Errorf("approve: %+v, %v", info, err)
	}
	wantKnown(t, s, "b@x.test")
	if got := s.Directory("corp"); got.Hold != "" || got.Marked != 0 || string(got.Cursor) != cursor || got.Owned != 1 {
		t.Errorf("directory after approval: %+v", got)
	}
	pass(t, s, "corp", Incremental, start.Add(4*time.Hour), "", object(t, 1, "n@x.test"))
	for after, want := range map[time.Duration]int{0: 1, 5 * time.Hour: 0} {
		if got, err := s.RemovedBetween("corp", start.Add(after), s.config.Now()); got != want || err != nil {
			t.Errorf("removed in the time after %v: %d, %v, want %d", after, got, err, want)
		}
	}
}

// TestDecidedPassIsFinished: a pass ran out of space after its decision. The next pass completes
// it, not only a much later opening of the store, when the guard may hold other removals.
func TestDecidedPassIsFinished(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	var failing atomic.Bool
	s := open(t, Config{Dir: t.TempDir(), MinFree: 1 << 20,
		FreeSpace: func(string) (uint64, error) { return free.Load(), nil },
		afterCommit: func(int) {
			if failing.Load() {
				free.Store(1 << 19)
			}
		}})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"), object(t, 3, "c@x.test"))
	p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 1)}); err != nil {
		t.Fatal(err)
	}
	failing.Store(true) // the next commit is the decision and the last one that works
	if _, err := p.Commit(Outcome{Cursor: []byte("decided"), Ended: start}); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("commit: %v, want %v", err, ErrNoSpace)
	}
	failing.Store(false)
	free.Store(1 << 30)
	pass(t, s, "corp", Incremental, start, "", object(t, 2, "b@x.test", "b2@x.test"))
	wantKnown(t, s, "b2@x.test", "b@x.test", "c@x.test")
	pass(t, s, "corp", Incremental, start, "the guard", object(t, 3))
	s = reopen(t, s)
	wantKnown(t, s, "b2@x.test", "b@x.test", "c@x.test")
	if got := s.Directory("corp").LastIncremental.Hold; got != "the guard" {
		t.Errorf("the last incremental pass was held because %q", got)
	}
}

// TestReleaseMatchesJudgment: an address whose time comes while a long pass reads was not
// counted for the guard, so it waits for the next pass.
func TestReleaseMatchesJudgment(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	origin := Origin{Controller: "dc2.corp.example", Started: start.Add(59 * time.Minute), Lag: time.Hour}
	for _, want := range []int{0, 1} {
		p, err := s.Begin("corp", Full, origin)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		if _, err := p.Apply([]Object{object(t, 2, "b@x.test")}); err != nil {
			t.Fatal(err)
		}
		if err := p.Sweep(); err != nil {
			t.Fatal(err)
		}
		pending, err := p.Pending()
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.Commit(Outcome{Ended: origin.Started.Add(2 * time.Minute)})
		if err != nil || pending.Owned != want || info.Removed != want {
			t.Errorf("pass at %v: judged %d, released %d (%v), want %d", origin.Started, pending.Owned, info.Removed,
				err, want)
		}
		origin.Started = origin.Started.Add(time.Minute)
	}
}

func TestPending(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "b@x.test", "c@y.test"),
		object(t, 3, "b@x.test"))
	p, err := s.Begin("corp", Incremental, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if _, err := p.Apply([]Object{object(t, 1), object(t, 2)}); err != nil {
		t.Fatal(err)
	}
	got, err := p.Pending()
	want := Pending{Owned: 4, Objects: 2, Last: map[string]int{"x.test": 1, "y.test": 1},
		Domains: map[string]DomainLoss{"x.test": {Owned: 3, Last: 1}, "y.test": {Owned: 1, Last: 1}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("pending: %v (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]bool{"a@x.test": true, "b@x.test": false, "c@y.test": true,
		"never@x.test": false} {
		if got, err := p.WouldLose(mustParse(t, text)); got != want || err != nil {
			t.Errorf("the pass would lose %s: %t, %v, want %t", text, got, err, want)
		}
	}
	if got.Addresses() != 2 {
		t.Errorf("%d addresses would go, want 2", got.Addresses())
	}
}

// TestCrashInAPartialApproval: removals that were not approved are still held after a crash.
func TestCrashInAPartialApproval(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"), object(t, 3, "c@x.test"))
	one := pass(t, s, "corp", Full, start.Add(time.Hour), "too many", object(t, 1, "a@x.test"),
		object(t, 2, "b@x.test"))
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "too many", object(t, 1, "a@x.test"))
	p, err := s.Begin("corp", Incremental, s.lastOrigin("corp", start.Add(3*time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	p.upTo, p.laterHold = one.Number, p.dir.record.hold
	p.info.Approved, p.info.Ended = true, p.info.Started
	p.info.Removed = 1
	redo := redoRecord{info: p.info, cursor: p.dir.cursor.cursor, fingerprint: p.dir.record.fingerprint,
		upTo: one.Number, laterHold: p.laterHold}
	err = s.write(func(t *tx) error {
		u := &unit{}
		p.claimNumber(t, u)
		u.set(dirKey(prefixRedo, p.dir.record.id), redo.encode())
		return t.add(u)
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort() // killed here
	s = reopen(t, s)
	d := s.Directory("corp")
	if d.Marked != 1 || d.Hold == "" {
		t.Errorf("after the restart %d objects are marked, held because %q", d.Marked, d.Hold)
	}
}
