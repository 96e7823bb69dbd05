package simulated

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// quiet waits until nothing changes, and compares the index with the truth.
func (w *world) quiet() {
	w.t.Helper()
	w.note("quiet")
	for _, f := range w.forests {
		f.calm()
	}
	for _, f := range w.forests {
		f.settle()
	}
	w.stopOnFailure()
	w.compare()
	w.stopOnFailure()
	for _, f := range w.forests {
		w.idle(f)
		f.collectGarbage()
	}
	w.compareDecisions()
	w.stopOnFailure()
	w.steps = nil
}

// calm ends all faults and replicates until all controllers are equal. The right to see deleted
// objects may stay withheld; then only a full pass notices deletions.
func (f *forest) calm() {
	w := f.w
	blind := w.rnd.IntN(4) == 0
	f.showUSN()
	for _, c := range f.controllers {
		c.server.SetFaults(adsim.Faults{})
		c.server.LoseCookies(0)
		c.raise()
		c.show()
		if c.withheld && !blind {
			c.withhold()
		}
	}
	for range 10 {
		n := 0
		for i, to := range f.controllers {
			for j, from := range f.controllers {
				if i != j {
					n += to.replicateFrom(from, 0)
				}
			}
		}
		if n == 0 {
			break
		}
	}
	first := f.controllers[0].truth()
	for _, c := range f.controllers[1:] {
		if !maps.Equal(first, c.truth()) {
			w.fail("after replication %s has %s and %s has %s", c.host(), only(c.truth(), first),
				f.controllers[0].host(), only(first, c.truth()))
		}
	}
}

// only lists what is in one truth and not the same in another.
func only(truth, other map[pair]bool) string {
	var list []string
	for p, restricted := range truth {
		if r, there := other[p]; !there || r != restricted {
			list = append(list, fmt.Sprintf("%s of %s (restricted: %t)", p.address, p.guid, restricted))
		}
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

// settle runs passes until no removal waits.
func (f *forest) settle() {
	w := f.w
	f.goodPass(f.owesFull != "")
	w.advance(15 * time.Minute) // what cannot be seen is read in full by then
	f.goodPass(false)
	w.advance(lag)
	f.goodPass(false)
	if f.mirror.Status().HoldReason != "" {
		if w.rnd.IntN(2) == 0 {
			w.note("%s: discarded at the quiet point", f.name)
			if _, err := w.discard(f); err != nil {
				w.fail("discard: %v", err)
			}
			f.goodPass(true)
			w.advance(lag) // what was learned before the clock was set back waits from now
			f.goodPass(false)
		}
		if f.mirror.Status().HoldReason != "" {
			w.approve(f)
		}
		f.goodPass(false)
	}
	// A full pass that came due with the last ones may have missed an object for the first time. An approval takes
	// what is held, and this removal waits.
	if w.store.Directory(f.name).Marked > 0 && f.mirror.Status().HoldReason == "" {
		w.advance(lag)
		f.goodPass(false)
		if f.mirror.Status().HoldReason != "" {
			w.approve(f)
			f.goodPass(false)
		}
	}
	status := f.mirror.Status()
	if status.State != mirror.Fresh || status.LastError != nil || status.HoldReason != "" ||
		w.store.Directory(f.name).Marked != 0 {
		w.fail("%s at a quiet point: %+v, %d objects marked", f.name, status, w.store.Directory(f.name).Marked)
	}
}

func (f *forest) goodPass(full bool) {
	if r := f.w.pass(f, full); r.Err != nil {
		f.w.fail("%s: a pass in quiet times: %v", f.name, r.Err)
	}
}

// compare compares the index with the truth entry by entry.
func (w *world) compare() {
	want := w.wanted()
	got := map[string]string{}
	err := w.store.Addresses(func(a address.Address, restricted bool) error {
		detail, err := w.store.Describe(a)
		if err != nil {
			return err
		}
		var owners []string
		for _, o := range detail.Owners {
			owners = append(owners, fmt.Sprintf("%s/%x", o.Directory, o.GUID))
			if o.Gone {
				w.fail("%v is marked as gone from %s", a, o.DN)
			}
		}
		slices.Sort(owners)
		got[a.String()] = fmt.Sprintf("%s restricted %t", strings.Join(owners, " "), restricted)
		return w.history(a, detail)
	})
	if err != nil {
		w.fail("reading the index: %v", err)
	}
	for a := range want {
		if got[a] != want[a] {
			w.fail("%s: the index has %q, want %q", a, got[a], want[a])
		}
	}
	for a := range got {
		if want[a] == "" {
			w.fail("%s: the index has %q, and it has no owner", a, got[a])
		}
	}
	if n := w.store.Totals().Addresses; int(n) != len(want) {
		w.fail("the totals count %d addresses, want %d", n, len(want))
	}
	if err := w.store.Verify(); err != nil {
		w.fail("verification: %v", err)
	}
	if err := w.store.Recount(); err != nil {
		w.fail("recount: %v", err)
	}
}

// wanted returns the truth of the followed controllers: the owners of each address, and whether
// all of them are internal-only.
func (w *world) wanted() map[string]string {
	owners, open := map[string][]string{}, map[string]bool{}
	for _, f := range w.forests {
		for p, restricted := range f.promise.followed.truth() {
			owners[p.address] = append(owners[p.address], fmt.Sprintf("%s/%x", f.name, [16]byte(p.guid)))
			open[p.address] = open[p.address] || !restricted
		}
	}
	want := map[string]string{}
	for a, list := range owners {
		slices.Sort(list)
		want[a] = fmt.Sprintf("%s restricted %t", strings.Join(list, " "), !open[a])
	}
	return want
}

// history checks the journal of an address: each object gains and loses it in turns,
// and has it at the end if it owns it now.
func (w *world) history(a address.Address, detail store.Detail) error {
	has := map[string]bool{}
	seen := map[string]bool{}
	for _, e := range detail.History {
		if e.OutsideOnly { // the object had it before and after
			continue
		}
		owner := fmt.Sprintf("%s/%x", e.Directory, e.GUID)
		if seen[owner] && has[owner] == e.Added {
			w.fail("the journal of %v says twice that %s gained it (%t): %+v", a, owner, e.Added, detail.History)
		}
		has[owner], seen[owner] = e.Added, true
	}
	for _, o := range detail.Owners {
		if owner := fmt.Sprintf("%s/%x", o.Directory, o.GUID); seen[owner] && !has[owner] {
			w.fail("%s has %v, and the journal says that it lost it: %+v", owner, a, detail.History)
		}
	}
	return nil
}

// idle checks that a pass without changes writes nothing. A first full pass may learn the new
// names of objects below a container that moved.
func (w *world) idle(f *forest) {
	w.pass(f, true)
	for _, full := range []bool{false, true} {
		r := w.pass(f, full)
		if i := r.Info; r.Err != nil || i.Changed+i.Added+i.Removed+i.Held > 0 {
			w.fail("%s: a pass where nothing changed: %+v, %v", f.name, i, r.Err)
		}
	}
}

// collectGarbage removes tombstones on all controllers, and the backups that are older.
func (f *forest) collectGarbage() {
	for _, c := range f.controllers {
		for _, e := range c.dead() {
			if err := c.d.Purge(e.GUID); err != nil {
				f.w.fail("%s: purge: %v", c.host(), err)
			}
		}
		c.snapshots = nil
	}
}
