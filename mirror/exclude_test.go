package mirror

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

const leavers = "OU=Leavers," + people

// excluding returns a world in which the subtree leavers is excluded.
func excluding(t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	w := newWorld(t, func(w *world, c *Config) {
		c.Rules.Exclude = []string{leavers}
		w.add(adsim.OU, leavers)
		if change != nil {
			change(w, c)
		}
	})
	return w
}

// reconfigured restarts the mirror with other rules on the same store.
func (w *world) reconfigured(change func(*Config)) {
	w.t.Helper()
	change(&w.config)
	w.restart()
}

// TestExcluded checks that objects below an excluded subtree own nothing, in every spelling of the subtree, and
// that an object that moves there or back is followed.
func TestExcluded(t *testing.T) {
	for _, spelled := range []string{leavers, "ou=leavers, ou=PEOPLE,dc=corp,DC=example",
		`OU=\4ceavers,OU=People,DC=corp,DC=example`} {
		w := excluding(t, func(_ *world, c *Config) {
			c.Rules.Exclude = []string{"OU=Left,DC=corp,DC=example", spelled}
		})
		ann := w.user("Ann", "ann@corp.example")
		w.user("Bob", "bob@corp.example")
		w.add(adsim.User, "CN=Eve,"+leavers, "eve@corp.example")
		w.add(adsim.User, "CN=Old,OU=Left,DC=corp,DC=example", "old@corp.example")
		w.pass(store.Full)
		w.wantKnown("ann@corp.example", "bob@corp.example")
		w.must(w.d.Move(ann, leavers))
		w.pass(store.Incremental)
		w.wantKnown("bob@corp.example")
		w.must(w.d.Move(ann, people))
		w.pass(store.Incremental)
		w.wantKnown("ann@corp.example", "bob@corp.example")
	}
}

// TestExcludeChanges checks that removing an exclusion widens the rules until the full pass has ended, and that
// adding one removes addresses subject to the guard.
func TestExcludeChanges(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) {
		w.add(adsim.OU, leavers)
		c.Guard = Guard{Percent: 5, Count: 2, Max: 3, Window: 24 * time.Hour}
	})
	w.user("Ann", "ann@corp.example")
	for i := range 4 {
		w.add(adsim.User, fmt.Sprintf("CN=l%d,%s", i, leavers), fmt.Sprintf("l%d@corp.example", i))
	}
	w.pass(store.Full)
	w.reconfigured(func(c *Config) { c.Rules.Exclude = []string{leavers} })
	if got := w.mirror.Status().State; got != Widening {
		t.Errorf("with another exclude the state is %s", got)
	}
	if info := w.pass(store.Full); info.Hold == "" {
		t.Error("the guard lets go of more addresses than max")
	}
	w.wantKnown("ann@corp.example", "l0@corp.example", "l1@corp.example", "l2@corp.example", "l3@corp.example")
	w.reconfigured(func(c *Config) { c.Guard.Max, c.Guard.Count = 100, 100 })
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example")
	w.reconfigured(func(c *Config) { c.Rules.Exclude = nil })
	if got := w.mirror.Status().State; got != Widening {
		t.Errorf("without the exclude the state is %s", got)
	}
	w.pass(store.Full)
	w.wantEqual()
}

// TestMoveAcrossAnExclude checks that the move of a container requires a full pass, because the objects below
// it do not show the move.
func TestMoveAcrossAnExclude(t *testing.T) {
	w := excluding(t, nil)
	team := w.add(adsim.OU, "OU=Team,"+people)
	w.add(adsim.User, "CN=Ann,OU=Team,"+people, "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	w.must(w.d.Move(team, leavers))
	w.pass(store.Full)
	w.wantKnown("bob@corp.example")
	w.must(w.d.Move(team, "OU=Left,DC=corp,DC=example"))
	w.pass(store.Full)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	w.must(w.d.Move(team, people)) // both places are in scope
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "bob@corp.example")
}

// TestExcludeThatDoesNotExist checks that such a subtree excludes nothing, and that a warning lasts until the
// subtree exists.
func TestExcludeThatDoesNotExist(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, func(_ *world, c *Config) {
		c.Rules.Exclude = []string{leavers}
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.wantEqual()
	warned := func() bool {
		return slices.ContainsFunc(w.mirror.Status().Warnings,
			func(text string) bool { return strings.Contains(text, "exclude: ") })
	}
	if !warned() || strings.Count(log.String(), "excluded subtree does not exist") != 1 {
		t.Errorf("warnings %q, and the log has\n%s", w.mirror.Status().Warnings, log.String())
	}
	w.advance(25 * time.Hour)
	w.pass(store.Full)
	if !warned() || strings.Count(log.String(), "excluded subtree does not exist") != 1 {
		t.Errorf("after the next full pass: warnings %q, and the log has\n%s", w.mirror.Status().Warnings, log.String())
	}
	w.add(adsim.OU, leavers)
	w.advance(25 * time.Hour)
	w.pass(store.Full)
	if warned() {
		t.Errorf("warnings of an exclude that is there: %q", w.mirror.Status().Warnings)
	}
}

// TestExcludeAtRandom moves objects and containers into and out of excluded subtrees, with and without bases.
// After each pass, the index must equal the directory.
func TestExcludeAtRandom(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 9))
		var ous, users []adsim.GUID
		w := excluding(t, func(w *world, c *Config) {
			c.Guard.Max = 0
			if seed%2 == 1 {
				c.Rules.Bases = []string{people}
			}
			c.Rules.Exclude = append(c.Rules.Exclude, "OU=Deep,OU=A,"+people)
		})
		for _, name := range []string{"OU=A," + people, "OU=Deep,OU=A," + people, "OU=B,OU=Left,DC=corp,DC=example",
			"OU=C," + leavers} {
			ous = append(ous, w.add(adsim.OU, name))
		}
		w.user("Stays", "stays@corp.example")
		for i := range 8 {
			users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
		}
		for range 25 {
			places := []string{people, leavers, "OU=Left,DC=corp,DC=example"}
			for _, ou := range ous {
				entry, err := w.d.Get(ou)
				w.must(err)
				places = append(places, entry.DN)
			}
			for range 1 + random.IntN(3) {
				what := users[random.IntN(len(users))]
				if random.IntN(3) == 0 {
					what = ous[random.IntN(len(ous))]
				}
				_ = w.d.Move(what, places[random.IntN(len(places))]) // may be rejected
			}
			if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
				t.Fatal(r.Err)
			}
			w.wantKnown(w.counting(users)...)
		}
	}
}

// counting returns the addresses of the users in scope, by their current names.
func (w *world) counting(users []adsim.GUID) []string {
	want := []string{"stays@corp.example"}
	for i, guid := range users {
		entry, err := w.d.Get(guid)
		w.must(err)
		lower := strings.ToLower(entry.DN)
		under := func(subtree string) bool { return strings.HasSuffix(lower, ","+strings.ToLower(subtree)) }
		if (len(w.config.Rules.Bases) == 0 || slices.ContainsFunc(w.config.Rules.Bases, under)) &&
			!slices.ContainsFunc(w.config.Rules.Exclude, under) {
			want = append(want, fmt.Sprintf("u%d@corp.example", i))
		}
	}
	return want
}
