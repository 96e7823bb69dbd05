package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/address"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func mustParse(t testing.TB, text string) address.Address {
	t.Helper()
	a, err := address.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t testing.TB, config Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, s.config)
}

// object returns an object with a number as GUID, and with addresses. A leading "!" marks an
// internal-only one.
func object(t testing.TB, id byte, addresses ...string) Object {
	o := Object{GUID: GUID{15: id}, Class: "user", DN: fmt.Sprintf("CN=%d,DC=corp,DC=example", id), USN: uint64(id)}
	for _, a := range addresses {
		text, internalOnly := strings.CutPrefix(a, "!")
		o.Addresses = append(o.Addresses, Owned{Address: mustParse(t, text), Attribute: "proxyaddresses",
			InternalOnly: internalOnly})
	}
	return o
}

// pass runs one whole pass of one directory.
func pass(t testing.TB, s *Store, dir string, kind Kind, at time.Time, hold string, objects ...Object) PassInfo {
	t.Helper()
	p, err := s.Begin(dir, kind, Origin{Controller: "dc1.corp.example", Started: at})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if _, err := p.Apply(objects); err != nil {
		t.Fatal(err)
	}
	if kind == Full {
		if err := p.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := p.Commit(Outcome{Cursor: []byte(fmt.Sprint(at.Unix())), USN: 7, Fingerprint: "rules",
		Ended: at.Add(time.Second), Hold: hold})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Recount(); err != nil {
		t.Fatal(err)
	}
	return info
}

// approveHeld approves under the rules of the last full pass.
func approveHeld(s *Store, dir string, upTo uint64, at time.Time) (PassInfo, error) {
	return s.Approve(dir, upTo, s.Directory(dir).Fingerprint, at)
}

// known lists what is in the index, internal-only addresses with "!".
func known(t testing.TB, s *Store) []string {
	t.Helper()
	list := []string{}
	err := s.Addresses(func(a address.Address, internalOnly bool) error {
		text := a.String()
		if internalOnly {
			text = "!" + text
		}
		list = append(list, text)
		got, err := s.Lookup(a)
		if err != nil || !got.Known || got.InternalOnly != internalOnly {
			t.Errorf("Lookup(%q) = %+v, %v, and a scan found it", a, got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func wantKnown(t testing.TB, s *Store, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := known(t, s); !slices.Equal(got, want) {
		t.Errorf("the index knows %q, want %q", got, want)
	}
}

func TestLifeOfAnAddress(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	info := pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "!c@y.test"))
	if info.Seen != 2 || info.Added != 3 || info.Changed != 2 || info.Removed != 0 {
		t.Errorf("first full pass: %+v", info)
	}
	wantKnown(t, s, "a@x.test", "b@x.test", "!c@y.test")

	info = pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 1, "a@x.test", "d@x.test"))
	if info.Added != 1 || info.Changed != 1 || info.Removed != 1 {
		t.Errorf("incremental pass: %+v", info)
	}
	wantKnown(t, s, "a@x.test", "d@x.test", "!c@y.test")
	got, err := s.Lookup(mustParse(t, "b@x.test"))
	if want := (Presence{Removed: start.Add(time.Minute + time.Second)}); err != nil || got != want {
		t.Errorf("a removed address: %+v, %v, want %+v", got, err, want)
	}
	if got, err := s.Lookup(mustParse(t, "never@x.test")); err != nil || got != (Presence{}) {
		t.Errorf("an address never seen: %+v, %v", got, err)
	}

	info = pass(t, s, "corp", Full, start.Add(time.Hour), "", object(t, 1, "a@x.test", "d@x.test"))
	if info.Removed != 1 {
		t.Errorf("full pass without the second object: %+v", info)
	}
	wantKnown(t, s, "a@x.test", "d@x.test")
	want := Totals{Addresses: 2, Objects: 1, Domains: map[string]int64{"x.test": 2}, Digest: s.Totals().Digest}
	if diff := cmp.Diff(want, s.Totals()); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	before := s.Totals()
	s = reopen(t, s)
	if diff := cmp.Diff(before, s.Totals()); diff != "" {
		t.Errorf("totals after opening again:\n%s", diff)
	}
	d := s.Directory("corp")
	if d.LastFull.Number != info.Number || string(d.Cursor) != fmt.Sprint(start.Add(time.Hour).Unix()) ||
		d.Fingerprint != "rules" ||
		!d.LastGood().Equal(start.Add(time.Hour)) || d.Controller != "dc1.corp.example" {
		t.Errorf("directory after opening again: %+v", d)
	}
	if p := pass(t, s, "corp", Incremental, start.Add(2*time.Hour), ""); p.Number <= info.Number {
		t.Errorf("pass %d after pass %d", p.Number, info.Number)
	}
}

func TestAddressWithTwoOwners(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "!a@x.test"))
	pass(t, s, "other", Full, start, "", object(t, 1, "!a@x.test"))
	wantKnown(t, s, "a@x.test")
	pass(t, s, "corp", Incremental, start, "", object(t, 1))
	wantKnown(t, s, "!a@x.test")
	pass(t, s, "corp", Incremental, start, "", object(t, 2))
	wantKnown(t, s, "!a@x.test")
	pass(t, s, "other", Full, start, "")
	wantKnown(t, s)
}

// TestRestrictionsWait: for outside senders, becoming internal-only is a removal, and an aborted
// pass must not apply it.
func TestRestrictionsWait(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"), object(t, 3, "!c@x.test"))
	p, err := s.Begin("corp", Incremental, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 1, "!a@x.test"), object(t, 2, "!b@x.test"),
		object(t, 3, "c@x.test")}); err != nil {
		t.Fatal(err)
	}
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test")
	if _, err := p.Apply([]Object{object(t, 2, "b@x.test")}); err != nil { // read again
		t.Fatal(err)
	}
	if info, err := p.Commit(Outcome{Ended: start}); err != nil || info.Changed != 4 || info.Removed != 1 {
		t.Errorf("commit: %+v, %v, want 1 address removed", info, err)
	}
	wantKnown(t, s, "!a@x.test", "b@x.test", "c@x.test")
}

func TestFlagChangesAtOnce(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	open := s.Totals().Digest
	pass(t, s, "corp", Incremental, start, "", object(t, 1, "!a@x.test"))
	wantKnown(t, s, "!a@x.test")
	if s.Totals().Digest == open {
		t.Error("the digest does not cover the internal-only flag")
	}
	pass(t, s, "corp", Incremental, start, "", object(t, 1, "a@x.test"))
	if got := s.Totals().Digest; got != open {
		t.Errorf("digest %s after going back, want %s", got, open)
	}
}

func TestDigestIsFreeOfOrder(t *testing.T) {
	one, two := open(t, Config{Dir: t.TempDir()}), open(t, Config{Dir: t.TempDir()})
	pass(t, one, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "c@x.test"))
	pass(t, two, "elsewhere", Full, start, "", object(t, 9, "c@x.test", "gone@x.test"))
	pass(t, two, "elsewhere", Full, start, "", object(t, 9, "c@x.test", "b@x.test", "a@x.test"))
	if a, b := one.Totals().Digest, two.Totals().Digest; a != b || strings.Trim(a, "0") == "" {
		t.Errorf("digests of equal indexes are %s and %s", a, b)
	}
}

func TestMoveNeverLeavesAnAddressUnowned(t *testing.T) {
	for _, order := range []string{"loser first", "winner first"} {
		t.Run(order, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
			read := []Object{object(t, 1), object(t, 2, "b@x.test", "a@x.test")}
			if order == "winner first" {
				slices.Reverse(read)
			}
			p, err := s.Begin("corp", Incremental, Origin{Started: start})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range read {
				if _, err := p.Apply([]Object{o}); err != nil {
					t.Fatal(err)
				}
				wantKnown(t, s, "a@x.test", "b@x.test")
			}
			if _, err := p.Commit(Outcome{Ended: start}); err != nil {
				t.Fatal(err)
			}
			wantKnown(t, s, "a@x.test", "b@x.test")
		})
	}
}

func TestAbortedPassRemovesNothing(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "c@x.test"))
	p, err := s.Begin("corp", Full, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 1, "a@x.test", "new@x.test")}); err != nil {
		t.Fatal(err)
	}
	if err := p.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin("corp", Incremental, Origin{}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second pass beside the first: %v", err)
	}
	p.Abort()
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test", "new@x.test")
	// The marks of the aborted pass must not be released by the next one, which read nothing of
	// these objects.
	s = reopen(t, s)
	pass(t, s, "corp", Incremental, start, "")
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test", "new@x.test")
	if d := s.Directory("corp"); d.Marked != 0 {
		t.Errorf("%d objects still marked", d.Marked)
	}
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

// TestBrokenFullPassIsRequired: an aborted full pass that has written something makes another
// one required until that completes, also over a restart.
func TestBrokenFullPassIsRequired(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	broken := func(why string, o Object) {
		t.Helper()
		p, err := s.Begin("corp", Full, Origin{Controller: "dc1.corp.example", Started: start, Why: why})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		if _, err := p.Apply([]Object{o}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want string) {
		t.Helper()
		if got := s.Directory("corp").FullPassPending; got != want {
			t.Errorf("owed because %q, want %q", got, want)
		}
	}
	broken("the first one", object(t, 1, "a@x.test"))
	want("")
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	broken("nothing new", object(t, 1, "a@x.test"))
	want("")
	broken("something new", object(t, 1, "a@x.test", "b@x.test"))
	want("something new")
	s = reopen(t, s)
	pass(t, s, "corp", Incremental, start, "", object(t, 2, "c@x.test"))
	broken("again", object(t, 1, "a@x.test", "d@x.test"))
	want("something new")
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	want("")
	s = reopen(t, s)
	want("")
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

// TestLastGoodIsTheNewestPass: not the one with the latest time, because the clock may have been
// set back since.
func TestLastGoodIsTheNewestPass(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start.Add(24*time.Hour), "", object(t, 1, "a@x.test"))
	pass(t, s, "corp", Incremental, start, "")
	if got := s.Directory("corp").LastGood(); !got.Equal(start) {
		t.Errorf("last good pass at %v, want %v", got, start)
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

func TestUnchangedObjectsWriteNothing(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	objects := []Object{object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "!c@y.test"),
		{GUID: GUID{9}, Class: "organizationalunit", DN: "OU=x", Container: true}, object(t, 3)}
	pass(t, s, "corp", Full, start, "", objects...)
	pass(t, s, "corp", Full, start, "", objects...)
	before := s.writer.commits
	for i := range objects {
		objects[i].USN += 1000 // what a logon does
	}
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", objects...)
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "", objects...)
	if n := s.writer.commits - before; n != 2 {
		t.Errorf("two passes that found nothing made %d commits, want 2", n)
	}
	if c, err := s.readChunk([]byte(prefixPass), []byte(prefixPass), true); err != nil || len(c) != 3 {
		t.Errorf("%d rows of passes, want one for each full pass (%v)", len(c), err)
	}
}

func TestDescribe(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	second := pass(t, s, "corp", Incremental, start.Add(time.Hour), "", object(t, 2, "b@x.test"))
	third := pass(t, s, "corp", Incremental, start.Add(2*time.Hour), "", object(t, 2))
	got, err := s.Describe(mustParse(t, "a@x.test"))
	want := Detail{Owners: []Owner{{Directory: "corp", GUID: GUID{15: 1}, DN: "CN=1,DC=corp,DC=example", Class: "user",
		Attribute: "proxyaddresses", Learned: start, Pass: 1, Controller: "dc1.corp.example", USN: 1}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("a known address: %v (-want +got):\n%s", err, diff)
	}
	got, err = s.Describe(mustParse(t, "b@x.test"))
	want = Detail{Removed: third.Ended, RemovedPass: third.Number, History: []Event{
		{Time: second.Started, Pass: second.Number, Added: true, Address: mustParse(t, "b@x.test"), Directory: "corp",
			GUID: GUID{15: 2},
			DN:   "CN=2,DC=corp,DC=example", Controller: "dc1.corp.example", USN: 2},
		{Time: third.Ended, Pass: third.Number, Address: mustParse(t, "b@x.test"), Directory: "corp", GUID: GUID{15: 2},
			DN: "CN=2,DC=corp,DC=example", Controller: "dc1.corp.example", USN: 2, Learned: second.Started},
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(address.Address{})); err != nil || diff != "" {
		t.Errorf("a removed address: %v (-want +got):\n%s", err, diff)
	}
}

func TestPrune(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test", "c@x.test"))
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", object(t, 1, "b@x.test", "c@x.test"))
	pass(t, s, "corp", Incremental, start.Add(3*time.Hour), "", object(t, 1, "c@x.test"))
	wantFrom := func(want time.Time) {
		t.Helper()
		if got, err := s.JournalFrom(); err != nil || !got.Equal(want) {
			t.Errorf("the journal is whole from %v on (%v), want %v", got, err, want)
		}
	}
	if n, err := s.Prune(start); n != 0 || err != nil {
		t.Errorf("pruned %d rows, %v, want none", n, err)
	}
	wantFrom(time.Time{})
	if n, err := s.Prune(start.Add(2 * time.Hour)); n != 1 || err != nil {
		t.Errorf("pruned %d rows, %v, want 1", n, err)
	}
	wantFrom(start.Add(2 * time.Hour))
	for _, c := range []struct {
		address string
		removed bool
		history int
	}{{"a@x.test", false, 0}, {"b@x.test", true, 1}, {"c@x.test", false, 0}} {
		d, err := s.Describe(mustParse(t, c.address))
		if err != nil || len(d.History) != c.history || d.Removed.IsZero() == c.removed {
			t.Errorf("%s after pruning: %+v, %v", c.address, d, err)
		}
	}
	if c, err := s.readChunk([]byte(prefixPass), []byte(prefixPass), true); err != nil || len(c) != 1 {
		t.Errorf("%d rows of passes left (%v), want 1", len(c), err)
	}
}

func TestManyBatches(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	big := Object{GUID: GUID{1}, DN: "CN=big"}
	for i := range 12_000 {
		big.Addresses = append(big.Addresses, Owned{Address: mustParse(t, fmt.Sprintf("big%d@x.test", i)),
			Attribute: "proxyaddresses"})
	}
	objects := []Object{big}
	for i := range 9_000 {
		o := object(t, 0, fmt.Sprintf("user%d@x.test", i), fmt.Sprintf("alias%d@x.test", i))
		o.GUID = GUID{2, byte(i >> 8), byte(i)}
		objects = append(objects, o)
	}
	pass(t, s, "corp", Full, start, "", objects...)
	if got := s.Totals().Addresses; got != 30_000 || s.writer.commits < 3 {
		t.Errorf("%d addresses in %d commits, want 30000 in several", got, s.writer.commits)
	}
	pass(t, s, "corp", Full, start, "")
	if got := s.Totals(); got.Addresses != 0 || got.Objects != 0 || len(got.Domains) != 0 ||
		strings.Trim(got.Digest, "0") != "" {
		t.Errorf("totals of an emptied index: %+v", got)
	}
}

func TestSecondProcess(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	_, err := Open(context.Background(), Config{Dir: s.config.Dir, LockWait: 150 * time.Millisecond})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("a second opener gets %v", err)
	}
	done := make(chan error)
	go func() {
		second, err := Open(context.Background(), Config{Dir: s.config.Dir, LockWait: time.Minute})
		if err == nil {
			err = second.Close()
		}
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("an opener that waits gets %v", err)
	}
}

// TestBadgerLog: Badger's debug messages do not fill the debug log.
func TestBadgerLog(t *testing.T) {
	var out bytes.Buffer
	l := badgerLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Debugf("hidden %d", 1)
	l.Infof("info %d\n", 2)
	l.Warningf("warning %d", 3)
	l.Errorf("error %d", 4)
	for i, want := range []string{`level=DEBUG msg=badger text="info 2"`, `level=WARN msg=badger text="warning 3"`,
		`level=ERROR msg=badger text="error 4"`, ""} {
		if line := append(strings.Split(out.String(), "\n"), "")[i]; !strings.HasSuffix(line, want) ||
			want == "" && line != "" {
			t.Errorf("line %d is %q, want %q", i, line, want)
		}
	}
}

func TestBadDirectories(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := t.TempDir()
	if err := os.Symlink("MANIFEST", filepath.Join(loop, "MANIFEST")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"a file", Config{Dir: file}, "not a directory; set store.dir"},
		{"below a file", Config{Dir: filepath.Join(file, "below")}, "not a directory"},
		{"not there", Config{Dir: filepath.Join(t.TempDir(), "none"), MustExist: true}, "there is no store"},
		{"an empty directory", Config{Dir: t.TempDir(), MustExist: true}, "there is no store"},
		{"a loop of links", Config{Dir: loop, MustExist: true}, "too many levels of symbolic links"},
		{"too little space", Config{Dir: t.TempDir(), MinFree: 1 << 62}, "free space on that file system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(context.Background(), c.config)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open gives %v, want %q", err, c.want)
			}
		})
	}
}

// TestMissingError: only a missing file means that there is no store.
func TestMissingError(t *testing.T) {
	for _, c := range []struct {
		errno   syscall.Errno
		missing bool
		want    string
	}{
		{syscall.ENOENT, true, "store /s: there is no store"},
		{syscall.EACCES, false, "store /s: stat /s/MANIFEST: permission denied; " +
			"run this command as root or with the account of the daemon"},
		{syscall.EIO, false, "store /s: stat /s/MANIFEST: input/output error"},
	} {
		t.Run(c.errno.Error(), func(t *testing.T) {
			err := missingError("/s", &fs.PathError{Op: "stat", Path: "/s/MANIFEST", Err: c.errno})
			if err.Error() != c.want || errors.Is(err, ErrMissing) != c.missing {
				t.Errorf("%v: %v, want %s", c.errno, err, c.want)
			}
		})
	}
}

func TestNewerFormat(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	e := newEncoder()
	e.uint(formatVersion + 1)
	if err := s.write(func(t *tx) error { return t.set([]byte(keyFormat), e) }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(context.Background(), s.config); !errors.Is(err, ErrNewer) {
		t.Errorf("a store of a newer format: %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	free := uint64(1 << 30)
	s := open(t, Config{Dir: t.TempDir(), MinFree: 1 << 20,
		FreeSpace: func(string) (uint64, error) { return free, nil }})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	free = 1 << 19
	p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 2, "b@x.test")}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a batch on a full disk: %v", err)
	}
	p.Abort()
	wantKnown(t, s, "a@x.test")
	free = 1 << 30
	pass(t, s, "corp", Incremental, start, "", object(t, 2, "b@x.test"))
	wantKnown(t, s, "a@x.test", "b@x.test")
}

// damage flips bits in the middle of every table file.
func damage(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table files in %s: %v", dir, err)
	}
	for _, name := range tables {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		if _, err := f.ReadAt(b, 64); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= 0xff
		}
		if _, err := f.WriteAt(b, 64); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

func TestDamagedTable(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": testKey(32)} {
		t.Run(name, func(t *testing.T) { damagedTable(t, key) })
	}
}

func damagedTable(t *testing.T, key []byte) {
	// The cache must not keep blocks that were sound when they were read.
	s := open(t, Config{Dir: t.TempDir(), Key: key, blockCache: 1})
	var objects []Object
	for i := range 200 {
		objects = append(objects, object(t, byte(i), fmt.Sprintf("user%d@x.test", i)))
	}
	pass(t, s, "corp", Full, start, "", objects...)
	s = reopen(t, s) // closing writes the tables
	if err := s.Verify(); err != nil {
		t.Fatalf("a sound store: %v", err)
	}
	damage(t, s.config.Dir)
	if err := s.Verify(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("verification of a damaged store: %v", err)
	}
	for i := range 200 {
		got, err := s.Lookup(mustParse(t, fmt.Sprintf("user%d@x.test", i)))
		if !got.Known && err == nil {
			t.Fatalf("a damaged store says of user%d that it is unknown", i)
		}
	}
	if _, err := s.Lookup(mustParse(t, "never@x.test")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a miss in a damaged store: %v", err)
	}
	s.Close()
	if _, err := Open(context.Background(), s.config); !errors.Is(err, ErrDamaged) ||
		!strings.Contains(err.Error(), "move its directory away") {
		t.Errorf("opening a damaged store: %v", err)
	}
}

// TestUnfinishedTable: a process that is killed while it writes a table leaves a file, empty or
// partial, that nothing refers to yet.
func TestUnfinishedTable(t *testing.T) {
	for name, content := range map[string][]byte{"empty": nil, "in part": bytes.Repeat([]byte{0x5a}, 5000)} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.config.Dir, "000099.sst"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, s.config)
			wantKnown(t, s, "a@x.test")
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEmptyLog: a process that is killed while it opens the store, or begins another log, leaves
// an empty file.
func TestEmptyLog(t *testing.T) {
	for _, name := range []string{"00099.mem", "000099.vlog", "DISCARD"} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // and again, over what the first time leaves
				if err := os.WriteFile(filepath.Join(s.config.Dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				s = open(t, s.config)
				wantKnown(t, s, "a@x.test")
				if err := errors.Join(s.Verify(), s.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestDamagedManifest: without the manifest it is unknown which files belong to the store.
func TestDamagedManifest(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	s.Close()
	if err := os.WriteFile(filepath.Join(s.config.Dir, "MANIFEST"), []byte("not a manifest"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), s.config)
	if !errors.Is(err, ErrDamaged) || strings.Contains(err.Error(), "\n") {
		t.Errorf("opening it: %v", err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	s.Close()
	if _, err := s.Lookup(mustParse(t, "a@x.test")); !errors.Is(err, ErrClosed) {
		t.Errorf("Lookup: %v", err)
	}
	if _, err := s.Describe(mustParse(t, "a@x.test")); !errors.Is(err, ErrClosed) {
		t.Errorf("Describe: %v", err)
	}
	if _, err := s.Begin("corp", Full, Origin{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Begin: %v", err)
	}
	if err := s.Verify(); !errors.Is(err, ErrClosed) {
		t.Errorf("Verify: %v", err)
	}
}

func TestRecordsSurviveEncoding(t *testing.T) {
	at := stamp{time: start, pass: 3, origin: 2, usn: 99}
	record := objectRecord{class: "user", dn: "CN=ä", container: true, unparsed: 2, addresses: []ownedRecord{
		{address: "a@x.test", attribute: "mail", internalOnly: true, learned: at},
		{address: "b@x.test", gone: at, notBefore: start, learned: at},
		{address: "d@x.test", gone: at, notBefore: start, learned: at, becomesInternalOnly: true}}}
	back := record
	back.addresses = append(slices.Clone(record.addresses),
		ownedRecord{address: "c@x.test", learned: at, lastSource: stamp{time: start, pass: 7, origin: 3, usn: 1}})
	for _, r := range []objectRecord{record, back} {
		if got, err := decodeObject(r.encode()); err != nil || !got.equal(&r) {
			t.Errorf("object record: %+v, %v, want %+v", got, err, r)
		}
	}
	closed := addressRecord{owners: []owner{{dir: 1, guid: GUID{1}, ownerFlags: ownerFlags{internalOnly: true}}},
		internalOnlySince: start}
	marked := addressRecord{owners: []owner{{dir: 1, guid: GUID{1}, ownerFlags: ownerFlags{becomesInternalOnly: true}},
		{dir: 2, guid: GUID{1}, ownerFlags: ownerFlags{internalOnly: true, leaving: true}}}}
	for _, r := range []addressRecord{closed, marked, {removed: start, pass: 4}} {
		got, err := decodeAddress(r.encode())
		if d := cmp.Diff(r, got, cmp.AllowUnexported(r, owner{}, ownerFlags{})); err != nil || d != "" {
			t.Errorf("address record: %v (-want +got):\n%s", err, d)
		}
	}
	row := journalRecord{time: start, address: "a@x.test", outsideOnly: true, internalOnly: true}
	if got, err := decodeJournal(row.encode()); err != nil || got != row {
		t.Errorf("journal record: %+v, %v, want %+v", got, err, row)
	}
	for n := range record.encode() {
		if _, err := decodeObject(record.encode()[:n:n]); err == nil {
			t.Errorf("the first %d bytes of an object record are read as one", n)
		}
	}
}

// FuzzDecode: damaged values give errors, never panics or large allocations.
func FuzzDecode(f *testing.F) {
	for _, r := range []objectRecord{{}, {class: "user", dn: "CN=x",
		addresses: []ownedRecord{{address: "a@x.test", learned: stamp{pass: 1}}}},
		{addresses: []ownedRecord{{address: "a@x.test", learned: stamp{pass: 1}, lastSource: stamp{pass: 2}}}}} {
		f.Add(r.encode())
	}
	one := addressRecord{owners: []owner{{dir: 1, guid: GUID{1}, ownerFlags: ownerFlags{internalOnly: true}}}}
	f.Add(one.encode())
	one.internalOnlySince = start
	f.Add(one.encode())
	shut := objectRecord{addresses: []ownedRecord{{address: "a@x.test", learned: stamp{pass: 1}, gone: stamp{pass: 2},
		becomesInternalOnly: true}}}
	f.Add(shut.encode())
	gone := addressRecord{removed: start, pass: 4}
	f.Add(gone.encode())
	all := totals{nextPass: 2, digest: addressDigest("a@x.test", false)}
	f.Add(all.counters())
	counts := dirCounts{owned: 3, marked: 2, leaving: 1, due: 2, waiting: 1}
	f.Add(counts.encode())
	f.Add((&objectRecord{class: "user", dn: "CN=x"}).encodeSplit(&partBitmap{1}))
	f.Add(counts.encode()[:1+countsOfFormatTwo]) // of format 2
	f.Add((&outboxRecord{lost: []lostAddress{{"a@x.test", true}}}).encode())
	f.Add((&feedRecord{on: true, place: []byte("place")}).encode())
	f.Add([]byte(nil))
	f.Add([]byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, value []byte) {
		if r, err := decodeObject(value); err == nil && value != nil {
			if again, err := decodeObject(r.encode()); err != nil || !again.equal(&r) {
				t.Fatalf("object record %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		if r, err := decodeAddress(value); err == nil && value != nil {
			if again, err := decodeAddress(r.encode()); err != nil ||
				cmp.Diff(r, again, cmp.AllowUnexported(r, owner{}, ownerFlags{})) != "" {
				t.Fatalf("address record %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		if r, err := decodeCounters(value); err == nil && value != nil {
			if again, err := decodeCounters(r.counters()); err != nil || !bytes.Equal(r.counters(), again.counters()) {
				t.Fatalf("totals %x do not survive", value)
			}
		}
		if r, err := decodeDirCounts(value); err == nil {
			if again, err := decodeDirCounts(r.encode()); err != nil || again != r {
				t.Fatalf("counts %x do not survive", value)
			}
		}
		if isSplit(value) {
			_, _ = decodeSplit(value, func(byte) ([]byte, error) { return value, nil })
		}
		if r, err := decodeOutbox(value); err == nil {
			if again, err := decodeOutbox(r.encode()); err != nil || !slices.Equal(again.lost, r.lost) {
				t.Fatalf("entry of the outbox %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		if r, err := decodeFeed(value); err == nil && value != nil {
			if again, err := decodeFeed(r.encode()); err != nil || !bytes.Equal(again.place, r.place) {
				t.Fatalf("feed %x reads as %+v and that as %+v, %v", value, r, again, err)
			}
		}
		_, _ = decodeOrigin(value)
		_, _ = decodeDirectory(value)
		_, _ = decodeRedo(value)
		_, _ = decodeJournal(value)
		_, _ = decodeCursor(value)
	})
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
