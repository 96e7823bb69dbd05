package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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
			_, err := s.Approve("corp", s.Directory("corp").Newest().Number, start)
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
