package simulated

import (
	"math"
	"time"

	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// removal is what one pass took away.
type removal struct {
	at       time.Time
	count    int
	approved bool
}

// pass runs one pass, which may fail, and takes down what it promises.
func (w *world) pass(f *forest, full bool) mirror.PassResult {
	w.note("%s: pass (full: %t)", f.name, full)
	w.inPass++
	before := w.known()
	f.promise.passBegins(w)
	r := f.mirror.Pass(w.t.Context(), full)
	f.guardedDomains(before)
	w.inPass--
	if r.Err != nil {
		w.note("%s: pass failed: %v", f.name, r.Err)
	}
	w.check("after a pass of " + f.name)
	return r
}

// committed takes down what a good pass promises as soon as it has ended: a full one that is
// due may follow, take long and fail.
func (w *world) committed(f *forest, info store.PassInfo) {
	w.note("%s: pass %d done: %v %s, %s, seen %d, added %d, removed %d, held %d %s", f.name, info.Number, info.Kind,
		info.Why,
		info.Controller, info.Seen, info.Added, info.Removed, info.Held, info.Hold)
	for _, c := range f.controllers {
		if c.host() == info.Controller {
			f.promise.committed(c, info.Kind)
		}
	}
	if info.Kind == store.Full {
		f.owesFull = ""
	}
	f.guarded(info)
}

// guarded checks that the guard let no more through than it is set to.
func (f *forest) guarded(info store.PassInfo) {
	recent := 0
	for _, r := range f.removals {
		if !r.approved && f.inWindow(r.at, info.Started) {
			recent += r.count
		}
	}
	f.removals = append(f.removals, removal{info.Ended, info.Removed, info.Approved})
	sum := recent + info.Removed
	owned := f.w.store.Directory(f.name).Owned + int64(info.Removed) // when it was judged
	share := 100 * float64(sum) / float64(max(owned+int64(recent), 1))
	tooMany := sum > f.guard.Max || sum > f.guard.Count && share > f.guard.Percent ||
		f.guard.Share > 0 && sum >= 3 && share > f.guard.Share
	if f.guard.Max > 0 && info.Removed > 0 && !info.Approved && tooMany {
		f.w.fail("the guard %+v let %d removals through after %d others (%.1f %%)", f.guard, info.Removed, recent,
			share)
	}
}

// inWindow reports whether the guard counts a removal. The guard does not believe a time
// that is ahead by more than clockSlack: it was noted before the clock was set back.
func (f *forest) inWindow(at, now time.Time) bool {
	return at.After(now.Add(-f.guard.Window)) && !at.After(now.Add(clockSlack))
}

const (
	clockSlack = 5 * time.Minute
	clockStep  = 3 * 365 * 24 * time.Hour
)

// passInTrouble runs a pass during which something happens.
func (w *world) passInTrouble(f *forest) {
	var undo []func()
	for _, c := range f.controllers {
		faults := adsim.Faults{}
		at := 1 + w.rnd.IntN(4)
		switch w.rnd.IntN(9) {
		case 0, 1, 2, 3, 4:
			faults.BeforePage = w.meanwhile(c, 1+w.rnd.IntN(3))
			w.note("%s: life goes on during the pass", c.host())
		case 5:
			faults.OnPage, faults.CutAfterEntries = at, 1+w.rnd.IntN(2)
			w.note("%s: cuts the connection on page %d", c.host(), at)
		case 6:
			faults.OnPage, faults.CutAfterBytes = at, 1+w.rnd.IntN(800)
			w.note("%s: cuts the connection on page %d after %d bytes", c.host(), at, faults.CutAfterBytes)
		case 7:
			faults.DropPagingControl = true
			w.note("%s: drops the paging control", c.host())
		case 8:
			faults.SearchResult = pickInt(w, 51, 52, 10, 1)
			w.note("%s: answers %d", c.host(), faults.SearchResult)
		}
		if w.rnd.IntN(4) == 0 {
			c.server.LoseCookies(1 + w.rnd.IntN(5))
		}
		c.server.SetFaults(faults)
		undo = append(undo, func() { c.server.SetFaults(adsim.Faults{}); c.server.LoseCookies(0) })
	}
	w.pass(f, w.rnd.IntN(3) == 0)
	for _, u := range undo {
		u()
	}
}

func pickInt(w *world, list ...int) int { return pick(w.rnd, list) }

// mostMeanwhile is the number of searches in one pass between which objects change. With small pages, more objects may
// change between two of them than a page has, and a search for changes would never end.
const mostMeanwhile = 200

// meanwhile changes objects between the pages of a read.
func (w *world) meanwhile(c *controller, often int) func(adsim.Search) {
	left := mostMeanwhile
	return func(s adsim.Search) {
		if s.Scope != 2 {
			return // the values of one object, between which nothing changes
		}
		w.check("before a page")
		if left == 0 || w.rnd.IntN(often) > 0 {
			return
		}
		left--
		for range 1 + w.rnd.IntN(3) {
			w.change(c)
		}
		if w.rnd.IntN(4) == 0 {
			w.advance(time.Duration(w.rnd.IntN(3600)) * time.Second)
		}
	}
}

// time goes on, mostly forward.
func (w *world) time() {
	d := time.Duration(w.rnd.IntN(3600)) * time.Second
	switch w.rnd.IntN(32) {
	case 5:
		d = clockStep // our clock was wrong, or is from now on
	case 6:
		d = -clockStep
	case 0:
		d = -d
	case 1:
		d = -24 * d
	case 2:
		d *= 200 // longer than the periodic full pass, or than a good pass may be old
	case 3, 4:
		d *= 10
	}
	w.advance(d)
	if d < 0 {
		w.clockSetBack()
	}
	w.note("time goes on by %v", d)
	w.check("after some time")
}

// trouble is one thing that happens to controllers, rights, the network or ourselves.
func (w *world) trouble() {
	f := w.forest()
	c := pick(w.rnd, f.controllers)
	w.choose([]operation{
		{4, func() { w.switchController(f) }},
		{3, c.raise},
		{3, func() { c.snapshot() }},
		{3, func() { c.restore(true) }},
		{3, func() { c.restore(false) }},
		{2, c.hide},
		{2, c.show},
		{3, c.withhold},
		{1, func() { w.recycleBin(f) }},
		{2, func() { w.hideUSN(f) }},
		{3, func() { w.note("%s: connections cut", c.host()); c.server.CutConnections() }},
		{3, func() { w.restart(f) }},
		{4, func() { w.crash(f) }},
		{2, func() { w.turnKnobs(f) }},
		{2, func() { w.turnKnobsTwice(f) }},
		{4, func() { w.setGuard(f) }},
		{2, func() { w.changePort(f) }},
		{3, func() { w.decide(f) }},
		{2, w.reload},
		{2, func() { w.fillDisk(f) }},
		{3, func() { w.hideUSNOf(f) }},
	})
}

// decide approves or discards what is held back, if anything is.
func (w *world) decide(f *forest) {
	if f.mirror.Status().HoldReason == "" {
		return
	}
	if w.rnd.IntN(2) == 0 {
		w.approve(f)
		return
	}
	n, err := w.discard(f)
	w.note("%s: held removals of %d objects discarded, %v", f.name, n, err)
	f.owesFull = "removals were discarded"
	w.check("after a discard")
}

// discard discards what is held, and records that in the promise.
func (w *world) discard(f *forest) (objects int, err error) {
	waiting := map[pair]bool{}
	if err := w.store.HeldRemovals(f.name, func(h store.HeldRemoval) error {
		if !h.NotBefore.IsZero() {
			waiting[pair{adsim.GUID(h.GUID), h.Address.String()}] = true
		}
		return nil
	}); err != nil {
		return 0, err
	}
	if objects, err = w.store.Discard(f.name, w.now()); err == nil {
		f.promise.discarded(waiting)
	}
	return objects, err
}

func (w *world) approve(f *forest) {
	info, err := w.store.Approve(f.name, math.MaxUint64, w.store.Directory(f.name).Fingerprint, w.now())
	w.note("%s: held removals approved: %d, %v", f.name, info.Removed, err)
	if err != nil {
		w.fail("approve: %v", err)
		return
	}
	f.guarded(info)
	w.check("after an approval")
}
