package real

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		name    string
		states  []State
		lenient bool
		right   []Class // besides lost and deferred, which always are
	}{
		{"valid all the time", []State{Valid}, false, []Class{Accepted}},
		{"valid, lenient", []State{Valid}, true, []Class{Accepted}},
		{"never existed", []State{Never}, false, []Class{Rejected}},
		{"never existed, lenient", []State{Never}, true, []Class{Accepted, Rejected}},
		{"gone", []State{Gone}, false, []Class{Rejected}},
		{"gone, lenient", []State{Gone}, true, []Class{Accepted, Rejected}},
		{"changing", []State{Changing}, false, []Class{Accepted, Rejected}},
		{"becomes valid", []State{Changing, Valid}, false, []Class{Accepted, Rejected}},
		{"stops being valid", []State{Valid, Changing}, false, []Class{Accepted, Rejected}},
		{"comes back", []State{Gone, Changing}, false, []Class{Accepted, Rejected}},
		{"goes", []State{Changing, Gone}, false, []Class{Accepted, Rejected}},
		{"valid through a change", []State{Valid, Changing, Valid}, false, []Class{Accepted, Rejected}},
		{"created and removed", []State{Never, Changing, Gone}, false, []Class{Accepted, Rejected}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, answer := range []Class{Lost, Accepted, Deferred, Rejected} {
				want := answer == Lost || answer == Deferred || slices.Contains(c.right, answer)
				if got := allowed(c.states, c.lenient, answer); got != want {
					t.Errorf("allowed(%v, %t, %v) = %t, want %t", c.states, c.lenient, answer, got, want)
				}
			}
		})
	}
}

func TestClassOf(t *testing.T) {
	for code, want := range map[int]Class{0: Lost, 250: Accepted, 251: Accepted, 421: Deferred, 450: Deferred,
		451: Deferred, 550: Rejected, 554: Rejected} {
		if got := classOf(code); got != want {
			t.Errorf("classOf(%d) = %v, want %v", code, got, want)
		}
	}
}

// TestJudge asks about one address with this history: changing at 10, valid at 20, a change that
// leaves it valid at 30, changing at 40, gone at 50. Unknown recipients are accepted from 60 to 70.
func TestJudge(t *testing.T) {
	zero := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return zero.Add(time.Duration(seconds) * time.Second) }
	o := NewOracle(zero)
	o.Set("a", Changing, at(10), "created")
	o.Set("a", Valid, at(20), "read")
	o.Note("a", at(30), "moved")
	o.Set("a", Changing, at(40), "removed")
	o.Set("a", Gone, at(50), "read")
	o.Lenient(true, at(60))
	o.Lenient(true, at(61)) // already so
	o.Lenient(false, at(70))
	for _, c := range []struct {
		name            string
		address         string
		asked, answered int
		accept, reject  bool // is the answer right?
	}{
		{"before it existed", "a", 1, 9, false, true},
		{"while it was created", "a", 9, 11, true, true},
		{"before it was valid", "a", 11, 19, true, true},
		{"across the promise", "a", 19, 21, true, true},
		{"at the promise", "a", 20, 21, true, false},
		{"valid", "a", 21, 29, true, false},
		{"valid across a change", "a", 29, 31, true, false},
		{"answered at the removal", "a", 31, 40, true, true},
		{"removed in between", "a", 39, 41, true, true},
		{"removed", "a", 41, 49, true, true},
		{"gone", "a", 51, 59, false, true},
		{"asked before, answered after all", "a", 1, 59, true, true},
		{"gone, lenient since", "a", 59, 61, true, true},
		{"gone, lenient", "a", 61, 69, true, true},
		{"gone, lenient before", "a", 69, 75, true, true},
		{"gone, lenient no longer", "a", 71, 75, false, true},
		{"another address", "b", 21, 29, false, true},
		{"another address, lenient", "b", 61, 69, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for answer, want := range map[Class]bool{Accepted: c.accept, Rejected: c.reject, Deferred: true,
				Lost: true} {
				if states, got := o.Judge(c.address, at(c.asked), at(c.answered), answer); got != want {
					t.Errorf("Judge(%s, %d, %d, %v) = %v, %t, want %t", c.address, c.asked, c.answered, answer, states,
						got, want)
				}
			}
		})
	}
	if got := o.In(Gone); !slices.Equal(got, []string{"a"}) {
		t.Errorf("In(Gone) = %v, want [a]", got)
	}
	if got := o.History("a"); strings.Count(got, "\n") != 5 || !strings.Contains(got, "40.000 s  changing  removed") {
		t.Errorf("History(a) =\n%s", got)
	}
}

// TestForgotten: the oracle judges nothing by events that it no longer keeps.
func TestForgotten(t *testing.T) {
	zero := time.Unix(1000, 0)
	o := NewOracle(zero)
	for n := range 2 * kept {
		o.Set("a", Valid, zero.Add(time.Duration(n)*time.Second), "again")
	}
	if states, right := o.Judge("a", zero, zero.Add(time.Second), Rejected); !right {
		t.Errorf("Judge(before what is kept) = %v, false, want true", states)
	}
	end := zero.Add(2 * kept * time.Second)
	if states, right := o.Judge("a", end, end, Rejected); right {
		t.Errorf("Judge(at the end) = %v, true, want false", states)
	}
}
