package store

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
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

// TestSettlingEndsNoWait: the waits of some removals run out after the pass that held another one. No
// pass has judged them, so an approval or a discard leaves them as they are, also if the process ends
// after the decision. The next pass judges them.
func TestSettlingEndsNoWait(t *testing.T) {
	minute := func(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }
	holdsAll := Outcome{Hold: "too many"}
	holdsX := holdOnly([]string{"x.test"}, start)
	approve := func(t *testing.T, s *Store) *Store {
		if info, err := approveHeld(s, "corp", math.MaxUint64, minute(240)); err != nil || info.Removed != 1 {
			t.Errorf("approval: %+v, %v, want one removed", info, err)
		}
		return s
	}
	killed := func(t *testing.T, s *Store) *Store {
		works, left := s.config.commit, 2 // the claim of the directory's origin and the decision
		s.config.commit = func(txn *badger.Txn, ts uint64) error {
			if left--; left < 0 {
				return errors.New("killed")
			}
			return works(txn, ts)
		}
		if _, err := approveHeld(s, "corp", math.MaxUint64, minute(240)); err == nil {
			t.Error("the approval was not interrupted")
		}
		s.config.commit = works
		return reopen(t, s)
	}
	discard := func(t *testing.T, s *Store) *Store {
		if n, err := s.Discard("corp", minute(240)); n != 1 || err != nil {
			t.Errorf("discard: %d objects, %v, want one", n, err)
		}
		return s
	}
	for _, c := range []struct {
		name    string
		outcome Outcome
		settle  func(*testing.T, *Store) *Store
		kept    []string // of the removals that are held
	}{
		{"approval of all domains", holdsAll, approve, nil},
		{"approval of one domain", holdsX, approve, nil},
		{"approval that a killed process had decided", holdsAll, killed, nil},
		{"discard of all domains", holdsAll, discard, []string{"held@x.test"}},
		{"discard of one domain", holdsX, discard, []string{"held@x.test"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			read := func(dc string, kind Kind, at time.Time, outcome Outcome, objects ...Object) PassInfo {
				t.Helper()
				return readAt(t, s, dc, kind, at, outcome, objects...)
			}
			held, both := object(t, 1, "held@x.test"), object(t, 2, "waits@x.test", "waits@y.test")
			read("dc1", Full, minute(0), Outcome{}, held, both)
			read("dc1", Full, minute(120), Outcome{}, held, both)
			stone := Object{GUID: held.GUID, Class: "user", Deleted: true, Deletion: Deletion{After: minute(125)}}
			if info := read("dc2", Full, minute(130), c.outcome, stone); info.Held != 1 {
				t.Fatalf("the pass that holds: %+v, want one held", info)
			}
			waits := func() (n int) {
				t.Helper()
				err := s.HeldRemovals("corp", func(h HeldRemoval) error {
					if h.NotBefore.Equal(minute(180)) {
						n++
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			if n := waits(); n != 2 {
				t.Fatalf("%d removals wait, want two", n)
			}
			s = c.settle(t, s)
			wantKnown(t, s, append([]string{"waits@x.test", "waits@y.test"}, c.kept...)...)
			if d := s.Directory("corp"); waits() != 2 || d.Hold != "" || d.Marked != 1 {
				t.Errorf("%d removals wait, %d objects have marks, held because %q", waits(), d.Marked, d.Hold)
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
			if info := read("dc2", Incremental, minute(241), Outcome{}); info.Removed != 2 {
				t.Errorf("the next pass: %+v, want it to release what waited", info)
			}
			wantKnown(t, s, c.kept...)
		})
	}
}

// readAt runs a pass at a domain controller with a lag of an hour.
func readAt(t *testing.T, s *Store, controller string, kind Kind, at time.Time, outcome Outcome,
	objects ...Object) PassInfo {
	t.Helper()
	p, err := s.Begin("corp", kind, Origin{Controller: controller, Database: controller, Started: at, Lag: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	_, err = p.Apply(objects)
	if kind == Full {
		err = errors.Join(err, p.Sweep())
	}
	if err != nil {
		t.Fatal(err)
	}
	outcome.Cursor, outcome.Ended = []byte("x"), at
	info, err := p.Commit(outcome)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestSettlingAfterAnAbortedPass: a pass ended the waits and was aborted before it judged them. An
// approval takes, and a discard keeps, only those of the domains that are held.
func TestSettlingAfterAnAbortedPass(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome Outcome
		settled int
		known   []string // after an approval
	}{
		{"nothing is held", Outcome{}, 0, []string{"a@x.test", "b@y.test"}},
		{"one domain is held", holdOnly([]string{"x.test"}, start), 1, []string{"b@y.test"}},
		{"all are held", Outcome{Hold: "too many"}, 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, approved := range []bool{true, false} {
				s := open(t, Config{Dir: t.TempDir()})
				readAt(t, s, "dc1", Full, start, Outcome{}, object(t, 1, "a@x.test"), object(t, 2, "b@y.test"))
				readAt(t, s, "dc2", Full, start.Add(50*time.Minute), c.outcome)
				p, err := s.Begin("corp", Incremental, Origin{Controller: "dc2", Database: "dc2",
					Started: start.Add(2 * time.Hour), Lag: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				p.Abort()
				if !approved {
					n, err := s.Discard("corp", start.Add(3*time.Hour))
					if n != c.settled || err != nil || s.Directory("corp").Marked != 2-n {
						t.Errorf("discard: %d objects, %v, want %d", n, err, c.settled)
					}
					continue
				}
				info, err := approveHeld(s, "corp", math.MaxUint64, start.Add(3*time.Hour))
				if info.Removed != c.settled || err != nil {
					t.Errorf("approval: %+v, %v, want %d removed", info, err, c.settled)
				}
				wantKnown(t, s, c.known...)
			}
		})
	}
}
