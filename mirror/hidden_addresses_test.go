package mirror

import (
	"fmt"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestAddressesHiddenLater checks an account that loses the right to read proxyAddresses while the mirror runs. A
// few objects change, which the guard would permit to lose their addresses, and none may lose any.
func TestAddressesHiddenLater(t *testing.T) {
	for _, c := range []struct {
		name string
		mail bool // objects have mail too, which stays readable
	}{
		{"no address is shown", false},
		{"mail is still shown", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *Config) { c.Guard = defaultGuard })
			var all []adsim.GUID
			var want []string
			for i := range 30 {
				first, second := fmt.Sprintf("u%02d@corp.example", i), fmt.Sprintf("alias%02d@corp.example", i)
				all, want = append(all, w.user(fmt.Sprint("u", i), first, second)), append(want, first, second)
				if c.mail {
					w.must(w.d.Modify(all[i], adsim.Set("mail", first)))
				}
			}
			w.pass(store.Full)
			w.d.Hide("proxyAddresses")
			for _, guid := range all[:2] {
				w.must(w.d.Touch(guid))
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil || r.Info.Removed > 0 {
					t.Errorf("pass: %+v, %v", r.Info, r.Err)
				}
				w.wantKnown(want...)
			}
			if s := w.mirror.Status(); s.HoldReason == "" {
				t.Errorf("nothing is held: %+v", s)
			}
			w.d.Hide()
			if r := w.mirror.Pass(t.Context(), true); r.Err != nil {
				t.Error(r.Err)
			}
			if s := w.mirror.Status(); s.HoldReason != "" {
				t.Errorf("still held: %s", s.HoldReason)
			}
			w.wantEqual()
			w.must(w.d.Delete(all[0]))
			w.advance(time.Minute)
			w.pass(store.Incremental)
			w.wantEqual()
		})
	}
}

// failFullReads makes full passes fail from the first page on.
func (w *world) failFullReads() {
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Filter == fullFilter {
			w.server.SetFaults(adsim.Faults{SearchResult: 51}) // busy
		}
	}})
}

// fullFilter is the filter of a full read, as the simulated controller prints it.
const fullFilter = "(&(|(objectClass=publicfolder)(objectClass=msexchdynamicdistributionlist)(objectClass=group)" +
	"(objectClass=contact)(objectClass=user)(objectClass=organizationalunit)(objectClass=container))" +
	"(!(objectClass=computer)))"

// hidingWorld is a world of 30 users, with a guard, that was read in full.
func hidingWorld(t *testing.T) (w *world, all []adsim.GUID, addresses []string) {
	w = newWorld(t, func(_ *world, c *Config) { c.Guard = defaultGuard })
	for i := range 30 {
		addresses = append(addresses, fmt.Sprintf("u%02d@corp.example", i))
		all = append(all, w.user(fmt.Sprint("u", i), addresses[i]))
	}
	w.pass(store.Full)
	return w, all, addresses
}

// TestFullPassAfterHiddenAddressesIsRetried checks that removals that wait for a full pass do not wait for the next
// periodic one if the first attempt fails, and that the status shows the reason. A reload that replaces the mirror, or
// a restart, changes neither.
func TestFullPassAfterHiddenAddressesIsRetried(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(*world)
	}{
		{"the same mirror", func(*world) {}},
		{"a reload", (*world).restart},
		{"a restart", (*world).restartAll},
		{"a restart with another wording", func(w *world) {
			w.reword("addresses are hidden")
			w.restartAll()
		}},
		{"a restart of a version that told the wrong reason", func(w *world) {
			w.reword(reasonEmpty)
			w.restartAll()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, all, addresses := hidingWorld(t)
			w.d.Hide("proxyAddresses")
			w.must(w.d.Touch(all[0]))
			w.failFullReads()
			w.mirror.Pass(t.Context(), false)
			c.then(w)
			w.failFullReads()
			w.advance(2 * time.Minute)
			w.mirror.Pass(t.Context(), false)
			if s := w.mirror.Status(); s.HoldReason != holdAddressesHidden || s.FullError == nil {
				t.Errorf("held because %q, full pass: %v", s.HoldReason, s.FullError)
			}
			w.server.SetFaults(adsim.Faults{})
			w.d.Hide()
			w.mirror.Pass(t.Context(), false) // without losses, and too early for a retry
			w.advance(3 * time.Minute)
			w.mirror.Pass(t.Context(), false)
			if s := w.mirror.Status(); s.HoldReason != "" {
				t.Errorf("still held: %s", s.HoldReason)
			}
			w.wantKnown(addresses...)
			w.wantEqual()
		})
	}
}

// TestHiddenAddressesOfMany checks that one object with many addresses is not taken for many objects.
func TestHiddenAddressesOfMany(t *testing.T) {
	w, all, addresses := hidingWorld(t)
	var of []string
	for i := range 2 * checkedOwners {
		of = append(of, fmt.Sprintf("abuse@d%02d.example", i))
	}
	w.add(adsim.Group, "CN=Abuse,"+people, of...)
	w.pass(store.Incremental)
	for _, guid := range all {
		w.d.HideOf(guid, "proxyAddresses")
	}
	w.must(w.d.Touch(all[0]))
	w.mirror.Pass(t.Context(), false)
	w.wantKnown(append(of, addresses...)...)
}

// TestDiscardedRemovalsStayDiscarded checks that a removal after held ones were discarded is not taken for a lost
// right, although the discarded addresses are missing in the directory.
func TestDiscardedRemovalsStayDiscarded(t *testing.T) {
	w, all, addresses := hidingWorld(t)
	for _, guid := range all[:20] {
		w.set(guid)
	}
	w.mirror.Pass(t.Context(), false)
	if s := w.mirror.Status(); s.HoldReason == "" {
		t.Fatal("nothing is held")
	}
	_, err := w.mirror.discard()
	w.must(err)
	w.must(w.d.Delete(all[29]))
	w.pass(store.Incremental)
	w.wantKnown(addresses[:29]...)
	if s := w.mirror.Status(); s.HoldReason != "" {
		t.Errorf("held: %s", s.HoldReason)
	}
}
