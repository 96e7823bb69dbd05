package mirror

import (
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// TestHoldAfterAnEmptyFullPass: a full pass saw no address. What it found missing stays held by later
// incremental passes, whatever the stored reason says. No other rule of the guard holds it.
func TestHoldAfterAnEmptyFullPass(t *testing.T) {
	canary := []address.Address{mustParse(t, "ann@corp.example")}
	limits := Limits{LateAfter: 15 * time.Minute, StaleAfter: 4 * time.Hour,
		Guarded: func(string) bool { return false }}
	for _, c := range []struct {
		name     string
		canaries []address.Address // at the full pass
		between  func(*world)
	}{
		{name: "the reason as it is", between: func(*world) {}},
		{name: "a canary was the reason, and is one no more", canaries: canary,
			between: func(w *world) { w.mirror.SetLimits(limits) }},
		{name: "the guard is switched off", between: func(w *world) {
			w.config.Guard = Guard{}
			w.restart()
		}},
		{name: "another wording", between: func(w *world) { w.reword("no object had an address") }},
		{name: "another wording, after a restart", between: func(w *world) {
			w.reword("no object had an address")
			w.restartAll()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, config *Config) {
				config.Guard = Guard{Percent: 5, Count: 50, Max: 500, Share: 30, Window: 24 * time.Hour}
				config.Limits, config.Canaries = limits, fixedCanaries(c.canaries...)
			})
			w.user("Ann", "ann@corp.example")
			w.user("Bob", "bob@corp.example")
			w.pass(store.Full)
			w.d.Hide("proxyAddresses", "mail")
			if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Held != 2 {
				t.Fatalf("a full pass without an address: %+v, %v", r.Info, r.Err)
			}
			c.between(w)
			for range 2 {
				if info := w.pass(store.Incremental); info.Hold == "" || info.Removed > 0 {
					t.Errorf("the incremental pass after it: %+v, want it held", info)
				}
			}
			w.wantKnown("ann@corp.example", "bob@corp.example")
			w.d.Hide()
			if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Hold != "" {
				t.Errorf("a full pass that sees them again: %+v, %v", r.Info, r.Err)
			}
			w.wantEqual()
		})
	}
}

// TestNoAddressesAge: an account that sees no address learns of no new recipient, so the index ages until a full pass
// sees one again, also over a restart. Such a full pass follows by itself.
func TestNoAddressesAge(t *testing.T) {
	for name, restart := range map[string]func(*world){
		"running": func(*world) {}, "restarted": (*world).restartAll,
		"the removals are discarded": func(w *world) {
			if _, err := w.mirror.discard(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, config *Config) {
				config.Guard = defaultGuard
				config.Limits = Limits{LateAfter: 5 * time.Minute, StaleAfter: 30 * time.Minute}
			})
			w.user("Ann", "ann@corp.example")
			w.pass(store.Full)
			w.d.Hide("proxyAddresses", "mail")
			full := true
			for _, c := range []struct {
				after time.Duration
				want  State
			}{{0, Fresh}, {4 * time.Minute, Fresh}, {2 * time.Minute, Late}, {9 * time.Minute, Late},
				{16 * time.Minute, Stale}, {time.Minute, Stale}} {
				w.advance(c.after)
				if r := w.mirror.Pass(t.Context(), full); r.Err != nil || r.Info.Removed > 0 {
					t.Fatalf("pass: %+v, %v", r.Info, r.Err)
				}
				full = false
				restart(w)
				if got, _ := w.mirror.State(); got != c.want {
					t.Errorf("%v later the state is %v, want %v", c.after, got, c.want)
				}
			}
			w.user("Eve", "eve@corp.example")
			for range 2 {
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
					t.Fatalf("pass: %+v, %v", r.Info, r.Err)
				}
			}
			w.wantKnown("ann@corp.example")
			w.d.Hide()
			w.advance(noAddressesFullInterval + time.Second)
			w.mirror.Pass(t.Context(), false) // an incremental pass may come first
			w.mirror.Pass(t.Context(), false)
			if got, _ := w.mirror.State(); got != Fresh {
				t.Errorf("the state is %v in the end", got)
			}
			w.wantKnown("ann@corp.example", "eve@corp.example")
			w.wantEqual()
		})
	}
}

// reword replaces the stored reason of a hold, as another version of the program words it.
func (w *world) reword(reason string) {
	w.t.Helper()
	d := w.store.Directory("corp")
	p, err := w.store.Begin("corp", store.Incremental, store.Origin{Controller: d.Controller, Rules: d.Fingerprint,
		Database: decodeCursor(d.Cursor).database(), Started: w.now()})
	w.must(err)
	_, err = p.Commit(store.Outcome{Cursor: d.Cursor, Fingerprint: d.Fingerprint, Ended: w.now(), Hold: reason,
		HoldEmpty: d.HoldEmpty})
	w.must(err)
	w.mirror.setStored(w.store.Directory("corp"))
}
