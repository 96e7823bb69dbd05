package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// retire closes the mirror and retires its directory.
func (w *world) retire(guard Guard, canaries ...address.Address) *RetiredDirectory {
	w.t.Helper()
	w.mirror.Close()
	return NewRetiredDirectory(RetiredConfig{Name: "corp", Store: w.store, Guard: guard,
		Canaries: fixedCanaries(canaries...), Now: w.config.Now, Log: slog.New(slog.DiscardHandler)})
}

func (w *world) retirePass(r *RetiredDirectory) store.PassInfo {
	w.t.Helper()
	result := r.Pass()
	if result.Err != nil {
		w.t.Fatal(result.Err)
	}
	return result.Info
}

// other makes another directory read the same objects.
func (w *world) other(name string) {
	w.t.Helper()
	config := w.config
	config.Name = name
	w.otherWith(config)
}

// otherWith makes another directory, with the given configuration, read the same objects.
func (w *world) otherWith(config Config) {
	w.t.Helper()
	m, err := New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close()
	if r := m.Pass(w.t.Context(), false); r.Err != nil {
		w.t.Fatal(r.Err)
	}
}

var usualGuard = Guard{Percent: 5, Count: 50, Max: 500, Window: 24 * time.Hour}

// TestRetiredIsHeldAndApproved checks that the removals of an emptied domain wait for an approval, even across
// a restart.
func TestRetiredIsHeldAndApproved(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example", "ann@lab.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	before := w.store.Directory("corp")
	r := w.retire(usualGuard)
	if info := w.retirePass(r); !strings.Contains(info.Hold,
		"no longer in the configuration, and no address of the domain corp.example") || info.Held != 3 {
		t.Errorf("first pass: %+v", info)
	}
	for range 2 { // the second time after a restart
		if info := w.retirePass(r); info.Number != 0 {
			t.Errorf("another pass with nothing new commits %+v", info)
		}
		s := r.Status()
		if s.State != Retired || s.HeldAddresses != 3 || s.HoldReason == "" || s.Controller == "" ||
			len(s.Warnings) != 1 || r.Gone() {
			t.Errorf("status: %+v", s)
		}
		w.wantKnown("ann@corp.example", "ann@lab.example", "bob@corp.example")
		r = w.retire(usualGuard)
	}
	info, err := r.Approve(t.Context(), 0)
	if err != nil || info.Removed != 3 || !r.Gone() {
		t.Errorf("approval: %+v, %v, gone %t", info, err, r.Gone())
	}
	w.wantKnown()
	if names := w.store.Directories(); len(names) != 0 {
		t.Errorf("the store still knows %q", names)
	}
	if err := w.store.Recount(); err != nil {
		t.Error(err)
	}
	// The journal keeps the name, but a directory with that name is a new one.
	events, err := w.store.History(mustParse(t, "bob@corp.example"))
	if err != nil || len(events) != 1 || events[0].Directory != "corp" || events[0].Pass != info.Number {
		t.Errorf("history: %+v, %v", events, err)
	}
	w.restart()
	if again := w.pass(store.Full); again.Number <= info.Number || again.Added != 3 ||
		before.LastFull.Number >= again.Number {
		t.Errorf("when it comes back: %+v", again)
	}
	w.wantEqual()
}

func mustParse(t *testing.T, text string) address.Address {
	t.Helper()
	a, err := address.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestRetiredGoes checks removals without approval, if few or no addresses are lost.
func TestRetiredGoes(t *testing.T) {
	for _, c := range []struct {
		what  string
		users int
		other bool // another directory has the same objects
		guard Guard
		held  bool
	}{
		{"renamed in the configuration", 60, true, usualGuard, false},
		{"a domain emptied", 2, false, usualGuard, true},
		{"guard off", 60, false, Guard{}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t, nil)
			for i := range c.users {
				w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
			w.pass(store.Full)
			if c.other {
				w.other("corp2")
			}
			r := w.retire(c.guard)
			info := w.retirePass(r)
			if held := info.Hold != ""; held != c.held || r.Gone() == held {
				t.Errorf("held %q, gone %t", info.Hold, r.Gone())
			}
			if c.other || c.held {
				w.wantEqual()
			} else {
				w.wantKnown()
			}
		})
	}
}

// TestRetiredWaitsForItsSuccessor checks that a hold ends by itself when another directory has the addresses.
func TestRetiredWaitsForItsSuccessor(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	r := w.retire(usualGuard)
	if info := w.retirePass(r); info.Hold == "" {
		t.Errorf("before: %+v", info)
	}
	w.other("corp2")
	if info := w.retirePass(r); info.Hold != "" || info.Removed != 1 || !r.Gone() {
		t.Errorf("after: %+v", info)
	}
	w.wantKnown("ann@corp.example")
	if info := w.retirePass(r); info.Number != 0 {
		t.Errorf("a pass when it is gone: %+v", info)
	}
}

func TestRetiredDiscard(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	r := w.retire(usualGuard)
	w.retirePass(r)
	if n, err := r.Discard(t.Context()); n != 1 || err != nil {
		t.Errorf("discard: %d, %v", n, err)
	}
	w.retirePass(r)
	if s := r.Status(); s.HoldReason != "" || s.HeldAddresses != 0 ||
		!strings.Contains(s.Warnings[0], "until the next start") {
		t.Errorf("status: %+v", s)
	}
	w.wantKnown("ann@corp.example")
	r = w.retire(usualGuard) // the next start
	if info := w.retirePass(r); info.Hold == "" {
		t.Errorf("at the next start: %+v", info)
	}
}

func TestRetiredCanary(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	r := w.retire(Guard{}, mustParse(t, "ann@corp.example"))
	if info := w.retirePass(r); !strings.Contains(info.Hold, "canaries.accept") {
		t.Errorf("a canary: %+v", info)
	}
}

// TestRetiredComesBack checks a directory that is configured again while its removals are held. It must not be
// trusted before it has been read, and must lose nothing.
func TestRetiredComesBack(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	r := w.retire(usualGuard)
	w.retirePass(r)
	w.must(w.d.Delete(ann))
	w.restart()
	if state, _ := w.mirror.State(); state != Widening {
		t.Errorf("state %v, want %v", state, Widening)
	}
	if info := w.pass(store.Full); info.Hold != "" || info.Removed != 1 {
		t.Errorf("the pass when it is back: %+v", info)
	}
	w.wantEqual()
	if s := w.mirror.Status(); s.State != Fresh || s.HeldAddresses != 0 {
		t.Errorf("status: %+v", s)
	}
}

// TestRetiredComesBackEmpty checks a directory that is configured again, with an account that sees no address. That
// proves nothing, least of all if the directory was never read to its end. So it does not become ready.
func TestRetiredComesBackEmpty(t *testing.T) {
	for _, read := range []bool{true, false} {
		t.Run(fmt.Sprintf("read before: %t", read), func(t *testing.T) {
			w := newWorld(t, guarded)
			for i := range 30 {
				w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
			if read {
				w.pass(store.Full)
			} else {
				w.failFullReadAfter(5)
				if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
					t.Fatal("the full pass was not interrupted")
				}
				w.server.SetFaults(adsim.Faults{})
			}
			known := w.known()
			if info := w.retirePass(w.retire(usualGuard)); info.Hold == "" || len(known) == 0 {
				t.Fatalf("of %q nothing is held: %+v", known, info)
			}
			w.restart()
			w.d.Hide("proxyAddresses", "mail")
			for range 2 {
				w.advance(time.Minute)
				if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, errEmpty) {
					t.Errorf("a full pass without an address: %+v, %v", r.Info, r.Err)
				}
				w.wantState(Widening)
				w.wantKnown(known...)
			}
			w.d.Hide()
			w.pass(store.Full)
			w.wantState(Fresh)
			w.wantEqual()
		})
	}
}

// TestRetiredDoesNotCount checks a directory that returns after some of its addresses went, which another directory
// has. Its guard does not count them, so it does not hold the next removal.
func TestRetiredDoesNotCount(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted: %t", restarted), func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *Config) {
				c.Guard = Guard{Percent: 5, Count: 50, Max: 20, Window: 24 * time.Hour}
			})
			var leaver adsim.GUID
			for i := range 30 {
				leaver = w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
			w.pass(store.Full)
			w.other("corp2")
			w.user("New", "new@lab.example")
			w.pass(store.Incremental)
			r := w.retire(usualGuard)
			r.SetHandoverLag(func(string) time.Duration { return 3 * time.Hour })
			if info := w.retirePass(r); info.Removed != 30 || info.Held != 1 {
				t.Fatalf("the pass of the directory that left: %+v", info)
			}
			w.restart()
			w.pass(store.Full)
			if restarted {
				w.restartAll()
			}
			w.must(w.d.Delete(leaver))
			w.advance(time.Minute)
			if info := w.pass(store.Incremental); info.Hold != "" {
				t.Errorf("one removal is held: %s", info.Hold)
			}
		})
	}
}

// failFullReadAfter makes full passes fail after some pages.
func (w *world) failFullReadAfter(pages int) {
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Filter != fullFilter {
			return
		}
		if pages--; pages < 0 {
			w.server.SetFaults(adsim.Faults{SearchResult: 51}) // busy
		}
	}})
}

// TestRetiredRun checks that Run ends when the directory is gone.
func TestRetiredRun(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	if err := w.retire(Guard{}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	w.wantKnown()
}
