package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
