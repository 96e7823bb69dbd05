package simulated

import (
	"fmt"
	"slices"

	"rcpt-milter/testenv/adsim"
)

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

// changePort goes over to the ports of the Global Catalog, or back.
func (w *world) changePort(f *forest) {
	f.catalog = !f.catalog
	w.note("%s: Global Catalog: %t", f.name, f.catalog)
	for _, c := range f.controllers {
		w.observe(c)
	}
	f.start()
}
