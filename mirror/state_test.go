package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/internal/clock"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestClockSetBack checks that a time recorded while the clock was ahead does not reveal the age of the index,
// neither before nor after the clock reaches it.
func TestClockSetBack(t *testing.T) {
	const ahead = 3 * time.Hour
	for _, c := range []struct {
		name string
		pass func(w *world) // runs while the clock is ahead
	}{
		{"an incremental pass was good", func(w *world) { w.pass(store.Incremental) }},
		{"a full pass failed after it had read changes", func(w *world) {
			w.advance(-ahead)
			w.pass(store.Incremental)
			w.advance(ahead)
			w.server.SetFaults(adsim.Faults{OnPage: 6, CutAfterEntries: 1, BeforePage: func(s adsim.Search) {
				if onlyFull(s) {
					w.advance(2 * w.config.Poll)
				}
			}})
			if r := w.mirror.Pass(t.Context(), true); r.Err == nil {
				t.Fatal("the full pass is good")
			}
			w.wantState(Fresh)
		}},
	} {
		for name, notice := range map[string]func(w *world){
			"the state is asked for": func(w *world) { w.mirror.State() },
			"a pass fails":           func(w *world) { w.mirror.Pass(t.Context(), false) },
		} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				w := newWorld(t, func(_ *world, c *Config) { c.StaleAfter = 30 * time.Minute })
				for i := range 30 {
					w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
				}
				w.pass(store.Full)
				w.advance(ahead)
				c.pass(w)
				w.server.Down()
				w.mirror.hangUp()
				w.advance(-ahead)
				notice(w)
				for range 2 * int(ahead/time.Hour) {
					w.advance(time.Hour)
					w.wantState(Stale)
				}
				w.server.SetFaults(adsim.Faults{})
				w.must(w.server.Up())
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
					t.Fatal(r.Err)
				}
				w.wantState(Fresh)
			})
		}
	}
}

// TestClockSetBackOverARestart restarts the process after the clock has reached the time of the last good pass.
// The new process must know that this time is unreliable. The next pass reads the changes first. A full pass
// follows, because deletions may be too old to be visible, and is repeated if it fails.
func TestClockSetBackOverARestart(t *testing.T) {
	const ahead = 3 * time.Hour
	for name, fails := range map[string]bool{"good": false, "the full pass fails at first": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *Config) { c.StaleAfter = 30 * time.Minute })
			for i := range 9 {
				w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
			w.pass(store.Full)
			w.advance(ahead)
			w.pass(store.Incremental)
			w.server.Down()
			w.mirror.hangUp()
			w.advance(-ahead)
			w.mirror.Pass(t.Context(), false)
			w.advance(ahead + 10*time.Minute)
			for range 2 {
				w.restartAll()
				w.wantState(Stale)
			}
			w.must(w.server.Up())
			if fails {
				w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
					if onlyFull(s) {
						w.server.CutConnections()
					}
				}})
				w.pass(store.Incremental)
				w.server.SetFaults(adsim.Faults{})
				w.wantState(Fresh)
				w.restartAll()
			}
			info := w.pass(store.Full)
			if last := w.store.Directory("corp").LastIncremental; !strings.Contains(info.Why, "clock") ||
				last.Number != info.Number-1 {
				t.Errorf("full pass %d because %q, the last incremental one is %d", info.Number, info.Why, last.Number)
			}
			w.wantState(Fresh)
			w.restartAll()
			w.wantState(Fresh)
			w.pass(store.Incremental)
		})
	}
}

// TestClockSetBackALittle checks that a small correction of the clock does not change the state.
func TestClockSetBackALittle(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.advance(-clock.Slack / 2)
	w.wantState(Fresh)
	w.advance(clock.Slack)
	w.wantState(Fresh)
}

// TestLastGoodIsWallTime checks the time up to which a full pass has read changes. It is compared with the
// times of stored passes, so it must not use the monotonic clock. Otherwise it would be later than every good
// pass after the clock was set back, and the index would become stale.
func TestLastGoodIsWallTime(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 30 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	w.pass(store.Full)
	w.server.SetFaults(adsim.Faults{BeforePage: func(adsim.Search) { w.advance(2 * w.config.Poll) }})
	started := w.now()
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil {
		t.Fatal(r.Err)
	}
	if _, good := w.mirror.State(); !good.After(started.Add(w.config.Poll)) || good != good.Round(0) {
		t.Errorf("last good %v of a full pass that began at %v", good, started)
	}
}

// TestStateOfAnotherStore checks that reads into a store that was set aside do not count, and that a miss in a
// doubtful store proves nothing.
func TestStateOfAnotherStore(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.wantState(Fresh)
	stored := *w.mirror.stored.Load()
	for _, c := range []struct {
		name   string
		change func(*store.Directory)
		want   State
	}{
		{"set aside", func(d *store.Directory) { d.Epoch++ }, NotReady},
		{"in doubt", func(d *store.Directory) { d.Doubt = "older state" }, Widening},
		{"neither", func(*store.Directory) {}, Fresh},
	} {
		changed := stored
		c.change(&changed)
		w.mirror.stored.Store(&changed)
		if got, _ := w.mirror.State(); got != c.want {
			t.Errorf("%s: state %s, want %s", c.name, got, c.want)
		}
	}
}

// TestGettersNoteNothing: only State and a pass note a clock that was set back. Age and Status tell it while
// it shows, and leave nothing behind.
func TestGettersNoteNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(*Mirror)
		want State // when the clock has reached its old time
	}{
		{"Age", func(m *Mirror) { m.Age() }, Fresh},
		{"Status", func(m *Mirror) { m.Status() }, Fresh},
		{"State", func(m *Mirror) { m.State() }, Stale},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.user("Ann", "ann@corp.example")
			w.pass(store.Full)
			w.advance(-time.Hour)
			c.call(w.mirror)
			if _, known := w.mirror.Age(); known || w.mirror.Status().State != Stale {
				t.Errorf("age known %t, state %v, want an unknown age and Stale", known, w.mirror.Status().State)
			}
			w.advance(time.Hour)
			if got, _ := w.mirror.State(); got != c.want {
				t.Errorf("state %v, want %v", got, c.want)
			}
		})
	}
}
