package store

import (
	"errors"
	"math"
	"testing"
	"time"
)

// passUnder runs a full pass under some rules.
func passUnder(t testing.TB, s *Store, rules string, at time.Time, visible func(string) bool, hold string,
	objects ...Object) PassInfo {
	t.Helper()
	return fullPass(t, s, Origin{Controller: "dc1.corp.example", Started: at, Rules: rules, Visible: visible},
		Outcome{Cursor: []byte("x"), Fingerprint: rules, Ended: at, Hold: hold}, objects...)
}

// fullPass runs a full pass of directory corp and checks the store after it.
func fullPass(t testing.TB, s *Store, from Origin, outcome Outcome, objects ...Object) PassInfo {
	t.Helper()
	p, err := s.Begin("corp", Full, from)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if _, err := p.Apply(objects); err != nil {
		t.Fatal(err)
	}
	if err := p.Sweep(); err != nil {
		t.Fatal(err)
	}
	info, err := p.Commit(outcome)
	if err != nil {
		t.Fatal(err)
	}
	checkSound(t, s)
	return info
}

// TestMarkOfOtherRulesIsNotReleased: an object that a pass under new rules cannot see keeps what
// it has, although it was held under the old rules. A mark of the same rules stays.
func TestMarkOfOtherRulesIsNotReleased(t *testing.T) {
	hidden := object(t, 1).DN
	invisible := func(dn string) bool { return dn != hidden }
	for rules, want := range map[string][]string{"new": {"a@x.test", "b@x.test"}, "old": {"b@x.test"}} {
		t.Run(rules, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			passUnder(t, s, "first", start, nil, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
			passUnder(t, s, "old", start, nil, "held", object(t, 1), object(t, 2, "b@x.test"))
			if d := s.Directory("corp"); d.Marked != 1 {
				t.Fatalf("%d objects with marks, want 1", d.Marked)
			}
			passUnder(t, s, rules, start.Add(time.Minute), invisible, "", object(t, 2, "b@x.test"))
			wantKnown(t, s, want...)
			// When it is seen again, it is judged under these rules.
			passUnder(t, s, rules, start.Add(time.Hour), nil, "", object(t, 1), object(t, 2, "b@x.test"))
			wantKnown(t, s, "b@x.test")
		})
	}
}

// TestApproveUnderOtherRules: an approval releases nothing and leaves everything as it was.
func TestApproveUnderOtherRules(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	passUnder(t, s, "old", start, nil, "", object(t, 1, "a@x.test"))
	passUnder(t, s, "old", start, nil, "held", object(t, 1))
	before := s.Directory("corp")
	for _, restart := range []bool{false, true} {
		if restart {
			s = reopen(t, s)
		}
		if info, err := s.Approve("corp", math.MaxUint64, "new", start.Add(time.Hour)); !errors.Is(err, ErrOtherRules) {
			t.Errorf("approval under other rules: %+v, %v", info, err)
		}
		wantKnown(t, s, "a@x.test")
		if d := s.Directory("corp"); d.Hold != "held" || d.Marked != 1 || d.Newest() != before.Newest() {
			t.Errorf("after the attempt: %+v", d)
		}
	}
	if info, err := s.Approve("corp", math.MaxUint64, "old", start.Add(time.Hour)); err != nil || info.Removed != 1 {
		t.Errorf("approval under the same rules: %+v, %v", info, err)
	}
	wantKnown(t, s)
}
