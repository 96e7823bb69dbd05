package mirror

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// applyInternalOnly sets the rule that internal-only recipients accept no mail from outside
// senders.
func applyInternalOnly(c *Config) { c.Rules.InternalOnly = true }

// setInternalOnly makes objects internal-only, or removes the restriction if restricted is false.
func (w *world) setInternalOnly(restricted bool, all ...adsim.GUID) {
	w.t.Helper()
	for _, guid := range all {
		if restricted {
			w.must(w.d.Modify(guid, adsim.Set("msExchRequireAuthToSendTo", "TRUE")))
		} else {
			w.must(w.d.Modify(guid, adsim.Set("msExchRequireAuthToSendTo")))
		}
	}
}

// wantOpen compares the known addresses that accept mail from outside senders with want.
func (w *world) wantOpen(want ...string) {
	w.t.Helper()
	if got := w.open(); !slices.Equal(got, want) {
		w.t.Errorf("open are %q, want %q", got, want)
	}
}

// open returns the addresses that accept mail from outside senders.
func (w *world) open() (list []string) {
	w.t.Helper()
	w.must(w.store.Addresses(func(a address.Address, restricted bool) error {
		if !restricted {
			list = append(list, a.String())
		}
		return nil
	}))
	return list
}

// TestInternalOnlyIsRemoval checks that a recipient that becomes internal-only is removed for outside senders
// at the end of the pass, with a time, and that lifting the restriction takes effect at once.
func TestInternalOnlyIsRemoval(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) { applyInternalOnly(c) })
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	w.setInternalOnly(true, ann)
	info := w.pass(store.Incremental)
	if info.Removed != 1 {
		t.Errorf("the pass: %+v", info)
	}
	w.wantOpen("bob@corp.example")
	w.wantKnown("ann@corp.example", "bob@corp.example")
	a, err := address.Parse("ann@corp.example")
	w.must(err)
	if got, err := w.store.Lookup(a); err != nil || !got.Removed.Equal(info.Ended) {
		t.Errorf("removed: %+v, %v, want %v", got, err, info.Ended)
	}
	w.wantDifferences()
	w.setInternalOnly(false, ann)
	w.pass(store.Incremental)
	w.wantOpen("ann@corp.example", "bob@corp.example")
	// A recipient that is internal-only from the start was never open.
	eve := w.user("Eve", "eve@corp.example")
	w.setInternalOnly(true, eve)
	if info := w.pass(store.Incremental); info.Removed != 0 {
		t.Errorf("internal-only from the start: %+v", info)
	}
	w.wantOpen("ann@corp.example", "bob@corp.example")
}

// TestInternalOnlyIgnored checks that internal_only: accept marks nothing.
func TestInternalOnlyIgnored(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) { c.Guard = Guard{Count: 0, Percent: 0, Max: 1, Window: time.Hour} })
	all := w.people(5, "corp.example")
	w.pass(store.Full)
	w.setInternalOnly(true, all...)
	if info := w.pass(store.Incremental); info.Hold != "" || info.Removed != 0 ||
		w.store.Directory("corp").Marked != 0 {
		t.Errorf("the pass: %+v", info)
	}
}

// TestInternalOnlyGuarded checks that the guard counts recipients that become internal-only together with
// removed ones, and that an operator can approve and discard both.
func TestInternalOnlyGuarded(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { guarded(w, c); applyInternalOnly(c) })
	all := w.people(20, "corp.example")
	w.pass(store.Full)
	w.leave(all[0])
	w.setInternalOnly(true, all[1])
	if info := w.pass(store.Incremental); info.Removed != 2 {
		t.Errorf("two go: %+v", info)
	}
	w.leave(all[2])
	w.setInternalOnly(true, all[3])
	info := w.pass(store.Incremental)
	if info.Held != 2 || info.Removed != 0 || !strings.Contains(info.Hold, "removal_guard.count (3)") {
		t.Errorf("two more: %+v", info)
	}
	open := func(text string) bool { return slices.Contains(w.open(), text) }
	if !open("u2@corp.example") || !open("u3@corp.example") {
		t.Error("held, they are not open")
	}
	w.wantDifferences("u2@corp.example index:true directory:false held",
		"u3@corp.example index:true directory:true held")
	if n, err := w.store.Discard("corp", w.now()); n != 2 || err != nil || !open("u3@corp.example") {
		t.Errorf("discard: %d, %v", n, err)
	}
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Held != 2 {
		t.Errorf("a full pass finds them again: %+v, %v", r.Info, r.Err)
	}
	if info := w.approve(); info.Removed != 2 || open("u3@corp.example") || !w.knows("u3@corp.example") ||
		w.knows("u2@corp.example") {
		t.Errorf("approval: %+v", info)
	}
	// The restriction is lifted before the approval, so no mark remains.
	w.setInternalOnly(true, all[4:10]...)
	w.pass(store.Incremental)
	w.setInternalOnly(false, all[4:10]...)
	if info := w.pass(store.Incremental); info.Hold != "" || w.store.Directory("corp").Marked != 0 ||
		!open("u4@corp.example") {
		t.Errorf("open again: %+v", info)
	}
}

// TestInternalOnlyShare checks that the share of a domain, together with earlier losses in
// the window, holds only the removals of that domain.
func TestInternalOnlyShare(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) {
		applyInternalOnly(c)
		c.Guard, c.ReplicationLag = defaultGuard, 0
	})
	w.people(60, "corp.example")
	sub := w.people(10, "sub.example")
	w.pass(store.Full)
	gone := w.user("Gone", "gone@corp.example")
	w.pass(store.Incremental)
	w.setInternalOnly(true, sub[:3]...)
	if info := w.pass(store.Incremental); info.Removed != 3 {
		t.Errorf("three of ten: %+v", info)
	}
	w.setInternalOnly(true, sub[3])
	w.setInternalOnly(true, gone)
	info := w.pass(store.Incremental)
	if info.Held != 1 || info.Removed != 1 ||
		!strings.Contains(info.Hold, "4 addresses (40.0 % of the domain sub.example)") {
		t.Errorf("a fourth one: %+v", info)
	}
}

// TestInternalOnlyCanary checks that a canary that becomes internal-only holds all removals.
func TestInternalOnlyCanary(t *testing.T) {
	ceo, err := address.Parse("ceo@corp.example")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(_ *world, c *Config) { applyInternalOnly(c); c.Canaries = fixedCanaries(ceo) })
	boss, both := w.user("Boss", "ceo@corp.example"), w.user("Both", "ceo@corp.example")
	ann := w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.setInternalOnly(true, both)
	if info := w.pass(store.Incremental); info.Hold != "" || info.Removed != 1 {
		t.Errorf("another owner is open: %+v", info)
	}
	w.setInternalOnly(true, boss)
	w.leave(ann)
	if info := w.pass(store.Incremental); info.Held != 2 || !strings.Contains(info.Hold, "canary ceo@corp.example") {
		t.Errorf("the last open owner: %+v", info)
	}
	w.wantOpen("ann@corp.example", "ceo@corp.example")
	w.must(w.d.Delete(boss)) // the other owner keeps the address as internal-only
	if info := w.pass(store.Incremental); info.Held != 2 {
		t.Errorf("the last open owner is deleted: %+v", info)
	}
	w.wantOpen("ann@corp.example", "ceo@corp.example")
}

// TestInternalOnlyLag checks a change of the controller. The new one may not have the change yet that lifted
// the restriction of an object.
func TestInternalOnlyLag(t *testing.T) {
	w, d2, _ := two(t, func(_ *world, c *Config) { applyInternalOnly(c) })
	ann, bob := w.user("Ann", "ann@corp.example"), w.user("Bob", "bob@corp.example")
	w.setInternalOnly(true, ann)
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.wantOpen("bob@corp.example")
	w.advance(time.Minute)
	w.setInternalOnly(false, ann)
	w.pass(store.Incremental)
	w.wantOpen("ann@corp.example", "bob@corp.example")
	w.server.Down()
	w.must(d2.Modify(bob, adsim.Set("msExchRequireAuthToSendTo", "TRUE")))
	for range 2 {
		if r := w.mirror.Pass(t.Context(), false); r.Err != nil || r.Info.Removed+r.Info.Held != 0 {
			t.Fatalf("dc2 takes over: %+v, %v", r.Info, r.Err)
		}
		w.wantOpen("ann@corp.example", "bob@corp.example")
		w.advance(time.Hour)
	}
	d2.ReplicateFrom(w.d, 0) // now it has the change
	w.advance(time.Hour)
	w.pass(store.Incremental)
	w.wantOpen("ann@corp.example")
}

// TestInternalOnlyInTwoDirectories checks that another directory that may own the address may not have the
// change yet. An unrestricted owner there keeps the address open.
func TestInternalOnlyInTwoDirectories(t *testing.T) {
	for name, there := range map[string]string{"no object has it there": "cid@corp.example",
		"an object has it there": "ann@corp.example"} {
		t.Run(name, func(t *testing.T) {
			w := newTwoDirectories(t, applyInternalOnly)
			w.mirror.SetLimits(Limits{})
			ann := w.user("Ann", "ann@corp.example")
			cid := w.add(adsim.User, "CN=Cid,"+elsewhere, there)
			w.begin()
			w.setInternalOnly(true, ann)
			if info := w.pass(store.Incremental); info.Removed != 0 {
				t.Errorf("the pass: %+v", info)
			}
			a, err := address.Parse("ann@corp.example")
			w.must(err)
			restricted := func() bool {
				t.Helper()
				got, err := w.store.Lookup(a)
				w.must(err)
				return got.InternalOnly
			}
			if restricted() {
				t.Error("it is closed at once")
			}
			w.advance(3 * time.Hour)
			w.pass(store.Incremental)
			w.passLeft()
			if got := restricted(); got != (there != "ann@corp.example") {
				t.Errorf("after the lag it is restricted: %t", got)
			}
			w.setInternalOnly(true, cid)
			w.d2.ReplicateFrom(w.d, 0)
			w.passLeft()
			w.advance(3 * time.Hour)
			w.passLeft()
			if !restricted() {
				t.Error("restricted in both, it is open")
			}
		})
	}
}

// TestInternalOnlyByReload checks that after a change from accept to refuse, the guard judges internal-only
// recipients like all losses caused by a change of rules. The reverse change takes effect at once.
func TestInternalOnlyByReload(t *testing.T) {
	w := newWorld(t, guarded)
	all := w.people(20, "corp.example")
	w.setInternalOnly(true, all[:5]...)
	w.pass(store.Full)
	w.reconfigured(applyInternalOnly)
	if info := w.pass(store.Full); info.Held != 5 || info.Removed != 0 {
		t.Errorf("to refuse: %+v", info)
	}
	w.reconfigured(func(c *Config) { c.Rules.InternalOnly = false })
	if info := w.pass(store.Full); info.Hold != "" || w.store.Directory("corp").Marked != 0 {
		t.Errorf("back to accept: %+v", info)
	}
	w.reconfigured(applyInternalOnly)
	w.pass(store.Full)
	if info := w.approve(); info.Removed != 5 {
		t.Errorf("approval: %+v", info)
	}
	w.reconfigured(func(c *Config) { c.Rules.InternalOnly = false })
	w.pass(store.Full)
	a, err := address.Parse("u0@corp.example")
	w.must(err)
	if got, err := w.store.Lookup(a); err != nil || got.InternalOnly || !got.Removed.IsZero() {
		t.Errorf("to accept: %+v, %v", got, err)
	}
}
