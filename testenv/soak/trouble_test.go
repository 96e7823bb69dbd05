package soak

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
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
		f.w.fail("the guard %+v let %d removals through after %d others (%.1f %%)", f.guard, info.Removed, recent, share)
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

// meanwhile changes objects between the pages of a read.
func (w *world) meanwhile(c *controller, often int) func(adsim.Search) {
	return func(s adsim.Search) {
		if s.Scope != 2 {
			return // the values of one object, between which nothing changes
		}
		w.check("before a page")
		if w.rnd.IntN(often) > 0 {
			return
		}
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

// replicate brings one controller something of what another knows, or all of it.
func (w *world) replicate(f *forest) {
	if len(f.controllers) < 2 {
		return
	}
	i := w.rnd.IntN(len(f.controllers))
	j := (i + 1 + w.rnd.IntN(len(f.controllers)-1)) % len(f.controllers)
	from, to := f.controllers[i], f.controllers[j]
	limit := pickInt(w, 0, 1, 2, 5, 10)
	to.replicateFrom(from, limit)
}

func (to *controller) replicateFrom(from *controller, limit int) int {
	n := to.d.ReplicateFrom(from.d, limit)
	to.act(fmt.Sprintf("%d objects replicated from %s, limit %d", n, from.host(), limit), nil)
	return n
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

// switchController stops the followed controller, so the next pass goes to another one. Sometimes
// that one is stopped too.
func (w *world) switchController(f *forest) {
	for _, c := range f.controllers {
		if down := c == f.promise.followed || w.rnd.IntN(6) == 0; down && !c.down {
			w.note("%s: goes down", c.host())
			c.down = true
			c.server.Down()
		} else if !down {
			c.raise()
		}
	}
	w.pass(f, false)
}

func (c *controller) raise() {
	if !c.down {
		return
	}
	c.f.w.note("%s: comes up", c.host())
	if err := c.server.Up(); err != nil {
		c.f.w.t.Errorf("%s: %v", c.host(), err)
		return
	}
	c.down = false
}

func (c *controller) snapshot() {
	c.snapshots = append(c.snapshots, c.d.Snapshot())
	c.f.w.note("%s: backup %d is made", c.host(), len(c.snapshots))
}

// restore restores a backup, in the supported way (the database gets a new identity) or by copying
// files. After a copy, a pass runs before the USNs reach their old value, because later the
// restore cannot be noticed.
func (c *controller) restore(supported bool) {
	if len(c.snapshots) == 0 {
		c.snapshot()
		return
	}
	w := c.f.w
	n := w.rnd.IntN(len(c.snapshots))
	c.server.CutConnections()
	own := c.d.InvocationID()
	c.d.Restore(c.snapshots[n])
	if supported {
		c.d.NewInvocationID()
	} else {
		c.d.SetInvocationID(own)
	}
	c.act(fmt.Sprintf("backup %d is restored (supported: %t) to USN %d", n+1, supported, c.d.HighestUSN()), nil)
	if !supported && c == c.f.promise.followed {
		c.raise()
		w.pass(c.f, false)
	}
}

// hide removes the right to read attributes, and show grants it again. Objects get no new USN, so
// only a full pass notices.
func (c *controller) hide() {
	c.hidden = pick(c.f.w.rnd, [][]string{{"mail"}, {"proxyAddresses"}, {"proxyAddresses", "mail"},
		{"msExchRequireAuthToSendTo"}, {"userAccountControl", "msExchRecipientTypeDetails"}})
	c.setHidden()
}

func (c *controller) show() {
	if c.hidden != nil {
		c.hidden = nil
		c.setHidden()
	}
}

func (c *controller) setHidden() {
	w := c.f.w
	c.d.Hide(c.hidden...)
	w.note("%s: %q cannot be read", c.host(), c.hidden)
	c.view.observe(w.step, c.truth(), func(adsim.GUID) bool { return true })
	c.f.noteValid()
	c.f.owesFull = "rights changed"
}

// withhold takes away or gives back the right to see deleted objects.
func (c *controller) withhold() {
	c.withheld = !c.withheld
	c.d.WithholdDeleted(c.withheld)
	c.f.w.note("%s: deleted objects cannot be seen: %t", c.host(), c.withheld)
}

func (w *world) recycleBin(f *forest) {
	on := w.rnd.IntN(2) == 0
	for _, c := range f.controllers {
		c.d.SetRecycleBin(on)
	}
	w.note("%s: recycle bin %t", f.name, on)
}

// hideUSN takes away the right to read uSNChanged: no full pass may be good then, and
// what incremental ones miss a full pass must find.
func (w *world) hideUSN(f *forest) {
	for _, c := range f.controllers {
		c.d.Hide(append(slices.Clone(c.hidden), "uSNChanged")...) // Hide replaces what was hidden before
		defer c.setHidden()
	}
	w.note("%s: uSNChanged cannot be read", f.name)
	if r := w.pass(f, true); r.Err == nil {
		w.fail("a full pass was good though uSNChanged cannot be read")
	}
}

// restart makes the mirror, and sometimes the store, anew in good order.
func (w *world) restart(f *forest) {
	if w.rnd.IntN(2) == 0 {
		w.note("%s: mirror restarted", f.name)
		f.start()
		return
	}
	w.note("all is restarted")
	w.reopen(w.dir)
}

// reopen closes the store and opens one in a directory, with mirrors anew.
func (w *world) reopen(dir string) {
	for _, f := range w.forests {
		f.mirror.Close()
	}
	if err := w.store.Close(); err != nil {
		w.fail("close: %v", err)
	}
	w.dir = dir
	w.openStore()
	for _, f := range w.forests {
		f.start()
	}
	w.check("after a restart")
}

// crash kills the process, as far as anybody can tell, before some page of a pass: from
// what was on disk at that moment it goes on.
func (w *world) crash(f *forest) {
	image := ""
	var remembered memory
	at, page := 1+w.rnd.IntN(8), 0
	for _, c := range f.controllers {
		c.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
			if page++; page == at {
				image, remembered = w.image(), f.remember()
			}
		}})
		defer c.server.SetFaults(adsim.Faults{})
	}
	w.note("%s: crash before search %d of a pass", f.name, at)
	w.inPass++
	before := w.known()
	f.promise.passBegins(w)
	f.mirror.Pass(w.t.Context(), w.rnd.IntN(3) == 0)
	f.guardedDomains(before)
	w.inPass--
	if image == "" {
		image, remembered = w.image(), f.remember()
	}
	f.recall(remembered)
	w.reopen(image)
}

// image copies the files of the store as they are at this moment. The database may be
// tidying up: a copy during which a file came, grew or went is of no moment, and is made
// again.
func (w *world) image() string {
	for {
		before, dir := w.files(), w.t.TempDir()
		out, err := exec.Command("cp", "--sparse=always", "-r", w.dir+"/.", dir).CombinedOutput()
		if !slices.Equal(before, w.files()) {
			continue
		}
		if err != nil {
			w.fail("copy of the store: %v: %s", err, out)
		}
		return dir
	}
}

// files lists the files of the store with their sizes.
func (w *world) files() []string {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.fail("list of the store: %v", err)
	}
	var list []string
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else it has gone since
			list = append(list, fmt.Sprint(e.Name(), " ", info.Size()))
		}
	}
	return list
}

// turnKnobs changes the rules of what a recipient is.
func (w *world) turnKnobs(f *forest) {
	f.knobs = w.drawKnobs(f)
	f.useKnobs()
}

// turnKnobsTwice changes the rules and back again, with a pass in between that fails
// in its middle.
func (w *world) turnKnobsTwice(f *forest) {
	before := f.knobs
	f.knobs = w.drawKnobs(f)
	f.useKnobs()
	for _, c := range f.controllers {
		c.server.SetFaults(adsim.Faults{OnPage: 1 + w.rnd.IntN(5), CutAfterEntries: 1})
	}
	w.pass(f, false)
	for _, c := range f.controllers {
		c.server.SetFaults(adsim.Faults{})
	}
	f.knobs = before
	f.useKnobs()
}

// changePort goes over to the ports of the Global Catalog, or back.
func (w *world) changePort(f *forest) {
	f.catalog = !f.catalog
	w.note("%s: Global Catalog: %t", f.name, f.catalog)
	for _, c := range f.controllers {
		w.observe(c)
	}
	f.start()
}

func (f *forest) useKnobs() {
	f.w.note("%s: rules: %v", f.name, f.knobs)
	for _, c := range f.controllers {
		f.w.observe(c)
	}
	f.start()
}

func (w *world) drawKnobs(f *forest) knobs {
	people, left, users := "OU=People,"+f.base, "ou = Left , "+strings.ToLower(f.base), "CN=Users,"+f.base
	return knobs{
		attributes: pick(w.rnd, [][]string{nil, nil, {"proxyAddresses"}, {"mail"}, {"mail", "proxyAddresses"}}),
		bases: pick(w.rnd, [][]string{nil, {people}, {people}, {people, users}, {left}, {left, "OU=Deep," + people},
			{strings.ToUpper(people), left}}),
		exclude: pick(w.rnd, [][]string{nil, nil, {"OU=Sub," + people},
			{"ou=sub , " + strings.ToUpper(people), "OU=Gone," + f.base}, {"OU=Deep," + people}}),
		refuse:       w.rnd.IntN(2) == 0,
		omitSystem:   w.rnd.IntN(2) == 0,
		omitDisabled: w.rnd.IntN(2) == 0,
	}
}

func (w *world) setGuard(f *forest) {
	f.guard = pick(w.rnd, []mirror.Guard{{}, {Percent: 5, Count: 8, Max: 30}, {Percent: 10, Count: 2, Max: 12},
		{Percent: 100, Count: 1000, Max: 5},
		{Percent: 5, Count: 50, Max: 1000, Share: 30}, {Percent: 100, Count: 1000, Max: 1000, Share: 10},
		{Percent: 100, Count: 1000, Max: 1000, Share: 50}, {Percent: 100, Count: 1000, Max: 1000, Share: 60}})
	f.guard.Window = 24 * time.Hour
	w.note("%s: guard %+v", f.name, f.guard)
	f.start()
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
	n, err := w.store.Discard(f.name, w.now())
	w.note("%s: held removals of %d objects discarded, %v", f.name, n, err)
	f.owesFull = "removals were discarded"
	f.promise.discarded()
	w.check("after a discard")
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

// memory is what a crash sets back: all that follows from the passes of a forest.
type memory struct {
	promise  promise
	views    []view
	owesFull string
	removals []removal
	setBack  bool
	read     readRules
}

func (f *forest) remember() memory {
	m := memory{f.promise, nil, f.owesFull, slices.Clone(f.removals), f.setBack, f.read}
	m.promise.learned = maps.Clone(m.promise.learned)
	for _, c := range f.controllers {
		v := c.view
		v.since, v.unread = maps.Clone(v.since), maps.Clone(v.unread)
		v.reached, v.epochs = maps.Clone(v.reached), maps.Clone(v.epochs)
		m.views = append(m.views, v)
	}
	return m
}

// recall needs that nothing has changed in the directory since.
func (f *forest) recall(m memory) {
	f.promise, f.owesFull, f.removals, f.setBack, f.read = m.promise, m.owesFull, m.removals, m.setBack, m.read
	for i, c := range f.controllers {
		c.view = m.views[i]
	}
}
