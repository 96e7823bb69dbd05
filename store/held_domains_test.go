package store

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// passHolding runs one incremental pass that holds some domains.
func passHolding(t testing.TB, s *Store, at time.Time, domains []string, objects ...Object) PassInfo {
	t.Helper()
	p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: at})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if _, err := p.Apply(objects); err != nil {
		t.Fatal(err)
	}
	info, err := p.Commit(holdOnly(domains, at))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Recount(); err != nil {
		t.Fatal(err)
	}
	return info
}

func holdOnly(domains []string, at time.Time) Outcome {
	o := Outcome{Cursor: []byte("x"), Ended: at.Add(time.Second)}
	for _, domain := range domains {
		o.Hold = "some domains"
		o.HoldDomains = append(o.HoldDomains, HeldDomain{domain, "too many of " + domain})
	}
	return o
}

// TestHoldOneDomain: the removals of one domain wait, also over a restart. All others go.
func TestHoldOneDomain(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@y.test"), object(t, 2, "c@y.test"),
		object(t, 3, "d@z.test"))
	info := passHolding(t, s, start, []string{"z.test", "y.test"}, object(t, 1), object(t, 2), object(t, 3))
	if info.Removed != 1 || info.Held != 3 || info.Hold != "some domains" {
		t.Errorf("the pass: %+v", info)
	}
	wantKnown(t, s, "b@y.test", "c@y.test", "d@z.test")
	s = reopen(t, s)
	wantHeld(t, s, "corp", info.Number, "b@y.test of 1, the last", "c@y.test of 2, the last", "d@z.test of 3, the last")
	d := s.Directory("corp")
	want := []HeldDomain{{"y.test", "too many of y.test"}, {"z.test", "too many of z.test"}}
	if diff := cmp.Diff(want, d.HeldDomains); diff != "" {
		t.Errorf("held domains (-want +got):\n%s", diff)
	}
	for domain, want := range map[string]string{"x.test": "", "y.test": "too many of y.test",
		"z.test": "too many of z.test"} {
		if got := d.Holds(domain); got != want {
			t.Errorf("%s is held because %q, want %q", domain, got, want)
		}
	}
	if info := passHolding(t, s, start.Add(time.Hour), []string{"z.test"}); info.Removed != 2 || info.Held != 1 {
		t.Errorf("the pass that releases y.test: %+v", info)
	}
	wantKnown(t, s, "d@z.test")
	if n, err := s.LostSince(start, start.Add(2*time.Hour), []string{"x.test", "y.test", "z.test"}); err != nil ||
		n["x.test"].Addresses != 1 || n["y.test"].Addresses != 2 || n["z.test"].Addresses != 0 {
		t.Errorf("lost: %v, %v", n, err)
	}
}

// TestHoldAllAfterSome: the next pass that holds all removals, an approval and a discard clear
// the held domains.
func TestHoldAllAfterSome(t *testing.T) {
	for what, next := range map[string]func(*Store) error{
		"all held": func(s *Store) error { pass(t, s, "corp", Incremental, start, "all"); return nil },
		"approved": func(s *Store) error {
			_, err := approveHeld(s, "corp", s.Directory("corp").Newest().Number, start)
			return err
		},
		"discarded": func(s *Store) error { _, err := s.Discard("corp", start); return err },
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@y.test"), object(t, 2, "c@y.test"))
			passHolding(t, s, start, []string{"y.test"}, object(t, 1, "a@x.test"))
			if err := next(s); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, s)
			if d := s.Directory("corp"); len(d.HeldDomains) > 0 || (d.Hold == "all") != (what == "all held") {
				t.Errorf("held because %q, domains %v", d.Hold, d.HeldDomains)
			}
			want := []string{"a@x.test", "b@y.test", "c@y.test"}
			if what == "approved" {
				want = []string{"a@x.test", "c@y.test"}
			}
			wantKnown(t, s, want...)
		})
	}
}

func TestTooManyHeldDomains(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	p, err := s.Begin("corp", Full, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	var domains []string
	for i := range MaxHeldDomains + 1 {
		domains = append(domains, fmt.Sprintf("d%d.test", i))
	}
	if _, err := p.Commit(holdOnly(domains, start)); err == nil {
		t.Error("a pass holds more domains than are kept")
	}
}

// TestDecidedHoldOfADomainIsFinished: opening the store or the next pass completes an
// interrupted release, except for the held domain.
func TestDecidedHoldOfADomainIsFinished(t *testing.T) {
	for _, restart := range []bool{true, false} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			var free atomic.Uint64
			free.Store(1 << 30)
			var failing atomic.Bool
			config := Config{Dir: t.TempDir(), MinFree: 1 << 20,
				FreeSpace: func(string) (uint64, error) { return free.Load(), nil },
				afterCommit: func(int) {
					if failing.Load() {
						free.Store(1 << 19)
					}
				}}
			s := open(t, config)
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@y.test"), object(t, 2, "c@y.test"))
			p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: start})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Apply([]Object{object(t, 1)}); err != nil {
				t.Fatal(err)
			}
			failing.Store(true) // the next commit is the decision and the last one that works
			if _, err := p.Commit(holdOnly([]string{"y.test"}, start)); !errors.Is(err, ErrNoSpace) {
				t.Fatalf("commit: %v, want %v", err, ErrNoSpace)
			}
			wantKnown(t, s, "a@x.test", "b@y.test", "c@y.test")
			failing.Store(false)
			free.Store(1 << 30)
			if restart {
				s = reopen(t, s)
				if d := s.Directory("corp"); d.Holds("y.test") == "" || d.Holds("x.test") != "" ||
					d.LastIncremental.Removed != 1 || d.LastIncremental.Held != 1 {
					t.Errorf("after opening: %+v", d)
				}
			} else {
				passHolding(t, s, start, []string{"y.test"})
			}
			wantKnown(t, s, "b@y.test", "c@y.test")
			if err := s.Recount(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRandomHeldDomains compares the store with a map over random passes that hold all,
// nothing or some domains.
func TestRandomHeldDomains(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			s := open(t, Config{Dir: t.TempDir()})
			has, index := map[byte]map[string]bool{}, map[byte]map[string]bool{}
			pass(t, s, "corp", Full, start, "")
			for i := range 80 {
				held := map[string]bool{}
				for d := range 4 {
					held[fmt.Sprintf("d%d.test", d)] = r.IntN(3) == 0
				}
				objects := changeSome(t, r, has)
				names := slices.DeleteFunc(slices.Collect(maps.Keys(held)), func(d string) bool { return !held[d] })
				info := passHolding(t, s, start.Add(time.Duration(i)*time.Minute), names, objects...)
				removed, kept := settleModel(has, index, held)
				if info.Removed != removed || info.Held != kept {
					t.Fatalf("pass %d removed %d and held %d, want %d and %d", i, info.Removed, info.Held, removed,
						kept)
				}
				wantKnown(t, s, union(index)...)
				if i%20 == 19 {
					s = reopen(t, s)
				}
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// changeSome changes the addresses of some objects, and returns them as they are then.
func changeSome(t *testing.T, r *rand.Rand, has map[byte]map[string]bool) []Object {
	var objects []Object
	for _, n := range r.Perm(6)[:r.IntN(5)] {
		id := byte(1 + n)
		if has[id] == nil {
			has[id] = map[string]bool{}
		}
		for range 1 + r.IntN(4) {
			a := fmt.Sprintf("a%d@d%d.test", r.IntN(5), r.IntN(4))
			if has[id][a] {
				delete(has[id], a)
			} else {
				has[id][a] = true
			}
		}
		objects = append(objects, object(t, id, slices.Sorted(maps.Keys(has[id]))...))
	}
	return objects
}

// settleModel changes the index to what it must be after a pass.
func settleModel(has, index map[byte]map[string]bool, held map[string]bool) (removed, kept int) {
	for id := range has {
		if index[id] == nil {
			index[id] = map[string]bool{}
		}
		maps.Copy(index[id], has[id])
		for a := range index[id] {
			switch {
			case has[id][a]:
			case held[domainOf(a)]:
				kept++
			default:
				removed++
				delete(index[id], a)
			}
		}
	}
	return removed, kept
}

func union(index map[byte]map[string]bool) []string {
	all := map[string]bool{}
	for _, addresses := range index {
		maps.Copy(all, addresses)
	}
	return slices.Collect(maps.Keys(all))
}

// TestHasDomain follows the addresses of a domain.
func TestHasDomain(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	want := func(domain string, want bool) {
		t.Helper()
		if got := s.HasDomain(domain); got != want {
			t.Errorf("HasDomain(%q) = %t, want %t", domain, got, want)
		}
	}
	want("x.test", false)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "a@sub.y.test"))
	want("x.test", true)
	want("sub.y.test", true)
	want("y.test", false)
	if !s.HasDomainBelow(".y.test") || s.HasDomainBelow(".x.test") || s.HasDomainBelow(".b.y.test") {
		t.Error("addresses below .y.test only")
	}
	pass(t, s, "corp", Incremental, start, "held", object(t, 1))
	want("x.test", true)
	pass(t, s, "corp", Incremental, start, "")
	want("x.test", false)
	s = reopen(t, s)
	want("x.test", false)
}

// TestHoldSubDomains: an entry ".parent" holds the removals of all sub-domains of parent, and of
// nothing else, also over a restart.
func TestHoldSubDomains(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.p.test", "b@y.x.p.test"),
		object(t, 2, "c@p.test", "e@xp.test"), object(t, 3, "d@z.test"))
	held := []string{"z.test", ".p.test"}
	info := passHolding(t, s, start, held, object(t, 1), object(t, 2), object(t, 3))
	if info.Removed != 2 || info.Held != 3 {
		t.Errorf("the pass: %+v", info)
	}
	s = reopen(t, s)
	wantKnown(t, s, "a@x.p.test", "b@y.x.p.test", "d@z.test")
	for domain, want := range map[string]bool{"x.p.test": true, "y.x.p.test": true, "p.test": false, "xp.test": false,
		"z.test": true, "x.z.test": false} {
		if got := s.Directory("corp").Holds(domain) != ""; got != want {
			t.Errorf("%s is held: %t, want %t", domain, got, want)
		}
	}
	if info := passHolding(t, s, start.Add(time.Hour), held[:1]); info.Removed != 2 || info.Held != 1 {
		t.Errorf("the pass that releases the sub-domains: %+v", info)
	}
}

// TestHoldManyDomains: however many domains are held, all others are released, also after an
// interruption. The list is written when it changes.
func TestHoldManyDomains(t *testing.T) {
	const n = 300
	s := open(t, Config{Dir: t.TempDir()})
	var objects, empty []Object
	var held []string
	for i := range n {
		domain := fmt.Sprintf("held-%d.test", i)
		o := object(t, 0, "only@"+domain, fmt.Sprintf("u%d@free-%d.test", i, i))
		o.GUID = GUID{5, byte(i >> 8), byte(i)}
		objects, held = append(objects, o), append(held, domain)
		o.Addresses = nil
		empty = append(empty, o)
	}
	pass(t, s, "corp", Full, start, "", objects...)
	info := passHolding(t, s, start.Add(time.Minute), held, empty...)
	if info.Removed != n || info.Held != n {
		t.Errorf("the pass: %+v", info)
	}
	list := func() uint64 { return version(t, s, dirKey(prefixHeld, 1)) }
	wrote := list()
	if wrote == 0 {
		t.Error("the list is not stored")
	}
	if info := passHolding(t, s, start.Add(2*time.Minute), held); info.Removed != 0 || info.Held != n ||
		list() != wrote {
		t.Errorf("a pass without changes: %+v, the list is of commit %d and was of %d", info, list(), wrote)
	}
	s = reopen(t, s)
	d := s.Directory("corp")
	for i := range n {
		if d.Holds(held[i]) == "" || d.Holds(fmt.Sprintf("free-%d.test", i)) != "" {
			t.Errorf("%s: %q, free-%d.test: %q", held[i], d.Holds(held[i]), i, d.Holds(fmt.Sprintf("free-%d.test", i)))
		}
	}
	if len(d.HeldDomains) != maxNamedDomains || s.Totals().Addresses != n {
		t.Errorf("%d named domains, %d addresses", len(d.HeldDomains), s.Totals().Addresses)
	}
	if info := passHolding(t, s, start.Add(3*time.Minute), held[:n/2]); info.Removed != n/2 || info.Held != n/2 {
		t.Errorf("a pass that holds fewer: %+v", info)
	}
	if _, err := s.Discard("corp", start.Add(4*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if value, err := s.get(dirKey(prefixHeld, 1)); value != nil || err != nil {
		t.Errorf("the list is left after a discard: %d bytes, %v", len(value), err)
	}
	if d := s.Directory("corp"); d.Holds(held[0]) != "" || s.Totals().Addresses != n/2 {
		t.Errorf("after a discard: %q, %d addresses", d.Holds(held[0]), s.Totals().Addresses)
	}
}

// version returns the commit that wrote a key; zero means that it does not exist.
func version(t *testing.T, s *Store, key []byte) uint64 {
	t.Helper()
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	found, err := s.getItem(txn, key, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestHeldDomainsFitARecord: the longest list stays out of the value log, and an older version
// holds all removals instead of the first ones.
func TestHeldDomainsFitARecord(t *testing.T) {
	domains := make([]HeldDomain, MaxHeldDomains)
	for i := range domains {
		name := fmt.Sprintf("%d.%s.test", i, strings.Repeat("long.", 48))
		domains[i] = HeldDomain{name, "no address of the domain " + name + " would be left"}
	}
	h, err := newHeldDomains(domains)
	if err != nil {
		t.Fatal(err)
	}
	redo := redoRecord{held: h}
	if n := len(redo.encode()); n > valueThreshold*3/4 {
		t.Errorf("a decided pass takes %d bytes", n)
	}
	back, err := decodeRedo(redo.encode())
	if err != nil || !back.held.equal(&h) {
		t.Errorf("a decided pass is read back with %d domains, %v", len(back.held.hashes), err)
	}
	d := directoryRecord{id: 1, hold: "why", held: h}
	if read, err := decodeDirectory(d.encode()); err != nil || read.held.any() {
		t.Errorf("the record of a directory has %d of many domains, %v", len(read.held.named), err)
	}
	for _, d := range domains {
		if !h.has(d.Domain) {
			t.Fatalf("%s is not held", d.Domain)
		}
	}
}
