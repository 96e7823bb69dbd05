package mirror

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

func TestGuard(t *testing.T) {
	guard := Guard{Percent: 5, Count: 50, Max: 500, Window: 24 * time.Hour}
	going := func(n int) store.Pending {
		return store.Pending{Owned: n, Last: map[string]int{"x.test": n}}
	}
	for _, c := range []struct {
		name  string
		guard Guard
		l     losses
		want  string // part of the reason; empty means not held
	}{
		{"nothing goes", guard, losses{owned: 10}, ""},
		{"a few of many", guard, losses{pending: going(50), owned: 1000}, ""},
		{"few in number, most of them", guard, losses{pending: going(50), owned: 60}, ""},
		{"many and a great part", guard, losses{pending: going(51), owned: 1000}, "percent"},
		{"many and a small part", guard, losses{pending: going(51), owned: 2000}, ""},
		{"too many", guard, losses{pending: going(501), owned: 1_000_000}, "max"},
		{"just not too many", guard, losses{pending: going(500), owned: 1_000_000}, ""},
		{"a few each time", guard, losses{pending: going(1), recent: 500, owned: 1_000_000}, "max"},
		{"a few each time, a great part", guard, losses{pending: going(1), recent: 50, owned: 950}, "percent"},
		{"a domain is emptied", guard, losses{pending: going(3), owned: 1000,
			domains: map[string]domainLoss{"x.test": {pending: 3, known: 3}}}, "domain x.test"},
		{"nobody left", guard, losses{pending: going(3), empty: true, owned: 1000}, "no object"},
		{"a canary", guard, losses{pending: going(1), canary: "ceo@x.test", owned: 1000}, "ceo@x.test"},
		{"a canary, switched off", Guard{}, losses{pending: going(1), canary: "ceo@x.test", owned: 1000}, "ceo@x.test"},
		{"a canary that stays", Guard{}, losses{canary: "ceo@x.test", owned: 1000}, ""},
		{"switched off", Guard{Percent: 5, Count: 50}, losses{pending: going(501), owned: 502}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.guard.judge(c.l).reason; c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func guarded(w *world, c *Config) {
	c.Guard = Guard{Percent: 5, Count: 3, Max: 100, Window: 24 * time.Hour}
}

func TestGuardHoldsAccidents(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) {
		guarded(w, c)
		c.Poll, results = time.Hour, passes(c)
	})
	var users []adsim.GUID
	for i := range 20 {
		users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
	}
	w.pass(store.Full)
	<-results
	before := w.known()
	for i, u := range users[:5] { // one at a time, with a pass after each
		w.must(w.d.Delete(u))
		info := w.pass(store.Incremental)
		<-results
		if held := i >= 3; held != (info.Hold != "") {
			t.Errorf("deletion %d: held because %q", i+1, info.Hold)
		}
	}
	gone := func(n int) (left []string) {
		for _, a := range before {
			if !slices.Contains(gonePeople[:n], a) {
				left = append(left, a)
			}
		}
		return left
	}
	w.wantKnown(gone(3)...)
	late := w.user("Late", "late@corp.example")
	stop := w.run()
	defer stop()
	if r := next(t, results); r.Err != nil || r.Info.Hold == "" {
		t.Errorf("an addition while removals are held: %+v, %v", r.Info, r.Err)
	}
	w.wantKnown(append(gone(3), "late@corp.example")...)
	info, err := w.mirror.Approve(t.Context(), 0)
	if err != nil || info.Removed != 2 {
		t.Errorf("approval: %+v, %v", info, err)
	}
	w.wantKnown(append(gone(5), "late@corp.example")...)
	// Approved removals do not count again.
	w.must(w.d.Delete(late))
	if r := next(t, w.mirror.Sync(false)); r.Info.Hold == "" {
		t.Errorf("a fourth removal in the window: %+v, want it held", r.Info)
	}
	if n, err := w.mirror.Discard(t.Context()); n != 1 || err != nil {
		t.Errorf("discard: %d, %v", n, err)
	}
	w.wantKnown(append(gone(5), "late@corp.example")...)
}

// TestCanary checks that the removal of a canary holds all removals of the pass until an approval, regardless
// of the limits.
func TestCanary(t *testing.T) {
	ceo, err := address.Parse("CEO@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world, c *Config) { c.Canaries, c.Poll = fixedCanaries(ceo), time.Hour })
	ann, bob := w.user("Ann", "ann@corp.example"), w.user("Bob", "bob@corp.example", "ceo@corp.example")
	w.user("Cid", "cid@corp.example")
	w.pass(store.Full)
	w.must(w.d.Delete(ann))
	if info := w.pass(store.Incremental); info.Removed != 1 || info.Hold != "" {
		t.Errorf("a removal that is none of a canary: %+v", info)
	}
	eve := w.user("Eve", "eve@corp.example", "ceo@corp.example")
	w.set(bob, "bob@corp.example")
	if info := w.pass(store.Incremental); info.Removed != 1 || info.Hold != "" {
		t.Errorf("a canary that moves: %+v", info)
	}
	w.must(w.d.Delete(eve))
	if info := w.pass(store.Incremental); info.Held != 2 || !strings.Contains(info.Hold, "ceo@corp.example") {
		t.Errorf("a canary that goes: %+v", info)
	}
	w.wantKnown("bob@corp.example", "ceo@corp.example", "cid@corp.example", "eve@corp.example")
	stop := w.run()
	defer stop()
	if info, err := w.mirror.Approve(t.Context(), 0); err != nil || info.Removed != 2 {
		t.Errorf("approval: %+v, %v", info, err)
	}
	w.wantKnown("bob@corp.example", "cid@corp.example")
	w.must(w.d.Delete(bob))
	if r := next(t, w.mirror.Sync(false)); r.Err != nil || r.Info.Hold != "" {
		t.Errorf("a removal after the canary is gone: %+v, %v", r.Info, r.Err)
	}
	w.wantKnown("cid@corp.example")
}

// TestApproveWhileAPassRuns checks that an approval includes the removals that the operator may have seen, but
// not those that a running pass holds before the approval is processed.
func TestApproveWhileAPassRuns(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) {
		guarded(w, c)
		c.Poll, results = time.Hour, passes(c)
	})
	var users []adsim.GUID
	for i := range 20 {
		users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
	}
	leave := func(guids []adsim.GUID) {
		for _, u := range guids {
			w.must(w.d.Delete(u))
		}
	}
	w.pass(store.Full)
	<-results
	leave(users[:5])
	w.pass(store.Incremental)
	<-results
	leave(users[5:11])
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Scope == 2 {
			once.Do(func() { close(reading); <-goOn })
		}
	}})
	stop := w.run()
	defer stop()
	<-reading
	type approval struct {
		info store.PassInfo
		err  error
	}
	approved := make(chan approval, 1)
	go func() {
		info, err := w.mirror.Approve(t.Context(), 0)
		approved <- approval{info, err}
	}()
	w.mirror.await(func() bool { return len(w.mirror.pending.actions) > 0 })
	close(goOn)
	if r := next(t, results); r.Info.Held != 11 {
		t.Errorf("the pass under way: %+v, want 11 held", r.Info)
	}
	if a := <-approved; a.err != nil || a.info.Removed != 5 {
		t.Errorf("approval: %+v, want 5 removed", a)
	}
	var want []string
	for i := 5; i < 20; i++ {
		want = append(want, fmt.Sprintf("u%d@corp.example", i))
	}
	slices.Sort(want)
	w.wantKnown(want...)
	next(t, results) // judges the rest again
	if s := w.mirror.Status(); s.HoldReason == "" || s.HeldAddresses != 6 {
		t.Errorf("after that: %d held because %q", s.HeldAddresses, s.HoldReason)
	}
}

// await waits until a condition on the pending request holds.
func (m *Mirror) await(so func() bool) {
	for {
		m.mu.Lock()
		now := so()
		m.mu.Unlock()
		if now {
			return
		}
		runtime.Gosched()
	}
}

var gonePeople = []string{"u0@corp.example", "u1@corp.example", "u2@corp.example", "u3@corp.example", "u4@corp.example"}

func TestEmptyFullPassIsHeld(t *testing.T) {
	w := newWorld(t, guarded)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.d.Hide("proxyAddresses", "mail")
	r := w.mirror.Pass(t.Context(), true)
	if r.Err != nil || !strings.Contains(r.Info.Hold, "no object") {
		t.Errorf("a full pass in which all addresses are hidden: %+v, %v", r.Info, r.Err)
	}
	w.d.Hide()
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Hold != "" {
		t.Errorf("when they are back: %+v, %v", r.Info, r.Err)
	}
	w.wantKnown("ann@corp.example")
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{24 * time.Hour: "24h", 90 * time.Minute: "1h30m",
		90 * time.Second: "1m30s", time.Minute: "1m", 10 * time.Second: "10s", 0: "0s"} {
		t.Run(want, func(t *testing.T) {
			if got := shortDuration(d); got != want {
				t.Errorf("shortDuration(%d) = %q, want %q", d, got, want)
			}
		})
	}
}
