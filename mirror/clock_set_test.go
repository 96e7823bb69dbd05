package mirror

import (
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// clockWorld returns the world of two with a local clock that is wrong by a changeable time.
func clockWorld(t *testing.T, change func(*Config)) (w *world, d2 *adsim.Directory, ahead *time.Duration) {
	ahead = new(time.Duration)
	w, d2, _ = two(t, func(w *world, c *Config) {
		c.Now = func() time.Time { return w.now().Add(*ahead) }
		if change != nil {
			change(c)
		}
	})
	return w, d2, ahead
}

// TestWaitsWhenTheClockIsSet checks that an address that only dc1 has shown waits at dc2 for replication, however
// the local clock is set meanwhile.
func TestWaitsWhenTheClockIsSet(t *testing.T) {
	for _, c := range []struct {
		name    string
		takes   time.Duration // error of the clock when dc2 takes over
		then    []time.Duration
		restart bool // before dc2 takes over
	}{
		{"right", 0, []time.Duration{0}, false},
		{"ahead for good", 0, []time.Duration{24 * time.Hour}, false},
		{"ahead for one pass", 0, []time.Duration{24 * time.Hour, 0}, false},
		{"ahead in steps", 0, []time.Duration{2 * time.Hour, 4 * time.Hour, 6 * time.Hour}, false},
		{"set back", 0, []time.Duration{-24 * time.Hour, -24 * time.Hour}, false},
		{"behind at the take-over", -24 * time.Hour, []time.Duration{0, 0}, false},
		{"behind after a start", -24 * time.Hour, []time.Duration{0, 0}, true},
		{"years behind after a start", -10 * 365 * 24 * time.Hour, []time.Duration{0, 0}, true},
		{"ahead after a start", 24 * time.Hour, []time.Duration{0, 0}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, d2, ahead := clockWorld(t, nil)
			w.user("a", "a@corp.example")
			d2.ReplicateFrom(w.d, 0)
			w.pass(store.Full)
			w.advance(time.Minute)
			w.user("new", "new@corp.example")
			w.pass(store.Incremental)
			w.advance(time.Minute)
			w.server.Down()
			if *ahead = c.takes; c.restart {
				w.restartAll()
			}
			w.pass(store.Full)
			for _, *ahead = range c.then {
				w.advance(time.Minute)
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
					t.Fatal(r.Err)
				}
				if !w.knows("new@corp.example") {
					t.Fatal("gone a few minutes after dc1 showed it")
				}
			}
			w.advance(4 * time.Hour)
			w.pass(store.Incremental)
			w.wantKnown("a@corp.example")
		})
	}
}

// TestWaitsAfterAFailedPass sets the clock for a pass that fails.
func TestWaitsAfterAFailedPass(t *testing.T) {
	ahead := time.Duration(0)
	w, d2, s2 := two(t, func(w *world, c *Config) { c.Now = func() time.Time { return w.now().Add(ahead) } })
	w.user("a", "a@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.advance(time.Minute)
	w.user("new", "new@corp.example")
	w.pass(store.Incremental)
	w.advance(time.Minute)
	w.server.Down()
	w.pass(store.Full)
	w.advance(time.Minute)
	s2.SetFaults(adsim.Faults{DropPagingControl: true})
	ahead = 24 * time.Hour
	if r := w.mirror.Pass(t.Context(), true); r.Err == nil {
		t.Fatal("the pass does not fail")
	}
	s2.SetFaults(adsim.Faults{})
	ahead = 0
	w.advance(time.Minute)
	if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
		t.Fatal(r.Err)
	}
	if !w.knows("new@corp.example") {
		t.Error("gone a few minutes after dc1 showed it")
	}
	w.advance(3*time.Hour + time.Minute)
	w.pass(store.Incremental)
	w.wantKnown("a@corp.example")
}

// TestTombstoneWhenTheClockIsSet reads a restored object at dc1 while the local clock is two hours behind. dc2, which
// takes over when the clock is right again, has only the deletion, or receives it later.
func TestTombstoneWhenTheClockIsSet(t *testing.T) {
	for name, late := range map[string]bool{"at once": false, "in a later pass": true} {
		t.Run(name, func(t *testing.T) {
			w, d2, ahead := clockWorld(t, nil)
			*ahead = -2 * time.Hour
			d3 := w.d.NewReplica("dc3", 9000)
			w.user("Ann", "ann@corp.example")
			back := w.user("Back", "back@corp.example")
			d3.ReplicateFrom(w.d, 0)
			d2.ReplicateFrom(w.d, 0)
			w.pass(store.Full)
			w.advance(24 * time.Minute)
			w.must(w.d.Delete(back))
			d3.ReplicateFrom(w.d, 0)
			w.advance(time.Minute)
			w.must(w.d.Undelete(back, ""))
			w.pass(store.Incremental) // sees it present
			w.advance(time.Minute)
			w.pass(store.Incremental)
			if *ahead = 0; !late {
				d2.ReplicateFrom(d3, 0)
			}
			w.server.Down()
			w.restartAll()
			w.pass(store.Full)
			d2.ReplicateFrom(d3, 0)
			w.advance(time.Minute)
			w.pass(store.Incremental)
			w.wantKnown("ann@corp.example", "back@corp.example")
		})
	}
}

// TestGuardWhenTheClockIsSet checks that removals of the last hour stay in the window of the guard when the local
// clock jumps ahead by more than the window.
func TestGuardWhenTheClockIsSet(t *testing.T) {
	for name, jump := range map[string]time.Duration{"right": 0, "ahead": 48 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w, d2, ahead := clockWorld(t, func(c *Config) {
				c.Guard = Guard{Percent: 5, Count: 50, Max: 2, Window: 24 * time.Hour}
			})
			users := []adsim.GUID{}
			for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
				users = append(users, w.user(n, n+"@corp.example"))
			}
			d2.ReplicateFrom(w.d, 0)
			w.pass(store.Full)
			pass := func(what string, held bool, gone ...adsim.GUID) {
				t.Helper()
				for _, guid := range gone {
					w.must(w.d.Delete(guid))
				}
				w.advance(time.Minute)
				r := w.mirror.Pass(t.Context(), false)
				if r.Err != nil || (r.Info.Hold != "") != held {
					t.Errorf("%s: held %q, want held %t; %v", what, r.Info.Hold, held, r.Err)
				}
			}
			pass("two removals", false, users[0], users[1])
			*ahead = jump
			pass("one more", true, users[2])
			pass("the next pass", true)
			w.advance(25 * time.Hour)
			pass("a day later", false)
		})
	}
}
