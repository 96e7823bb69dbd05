package simulated

import (
	"fmt"
	"strings"

	"rcpt-milter/testenv/adsim"
)

const (
	population = 45 // live objects of a forest, about
	pool       = 30 // addresses that wander within a forest, and as many between forests
)

// address returns an address of a small pool, so collisions are likely.
func (f *forest) address() string {
	n := f.w.rnd.IntN(pool)
	if f.w.rnd.IntN(4) == 0 {
		return fmt.Sprintf("s%d@shared.example", n)
	}
	return fmt.Sprintf("a%d@%s", n, f.domain)
}

// proxy spells an address as a value of proxyAddresses.
func (f *forest) proxy(address string) string {
	if f.w.rnd.IntN(5) == 0 {
		address = strings.ToUpper(address[:1]) + address[1:]
	}
	return pick(f.w.rnd, []string{"smtp:", "SMTP:", "smtp:", "sMtP:", " smtp:", "smtp: ", "SMTP :"}) + address
}

// act notes a change of a controller's directory. A change that the simulator rejects has no
// effect.
func (c *controller) act(what string, err error) error {
	w := c.f.w
	if err != nil {
		what += fmt.Sprintf(" (refused: %v)", err)
	}
	w.note("%s: %s", c.host(), what)
	w.observe(c)
	return err
}

// change makes one change, as administrators do.
func (w *world) change(c *controller) {
	people := c.people()
	if len(people) < population/2 || len(people) < population && w.rnd.IntN(6) == 0 {
		c.create(c.f.address())
		return
	}
	one := pick(w.rnd, people)
	w.choose([]operation{
		{8, func() { c.create(c.f.address()) }},
		{10, func() { c.addAlias(one, c.f.address()) }},
		{6, func() { c.removeAlias(one) }},
		{3, func() { c.rewrite(one) }},
		{1, func() { c.manyAliases(one) }},
		{1, c.changeLong},
		{2, func() { c.strip(pick(w.rnd, []string{c.f.domain, sharedDomain})) }},
		{2, func() {
			c.act("all addresses of "+one.DN+" removed", c.d.Modify(one.GUID, adsim.Set("proxyAddresses"),
				adsim.Set("mail")))
		}},
		{3, func() { c.setMail(one) }},
		{12, func() { c.moveAlias(one, pick(w.rnd, people)) }},
		{4, func() { c.replaceObject(one) }},
		{3, func() { c.act("rename "+one.DN, c.d.Rename(one.GUID, c.f.newName())) }},
		{5, func() { c.move(one) }},
		{4, func() { c.disable(one) }},
		{2, func() { c.setType(one) }},
		{3, func() { c.setInternal(one) }},
		{2, func() { c.act("touch "+one.DN, c.d.Touch(one.GUID)) }},
		{8, func() { c.act("delete "+one.DN, c.d.Delete(one.GUID)) }},
		{6, c.undelete},
		{2, c.recycle},
		{3, c.moveOU},
		{2, c.renameOU},
		{1, c.makeOU},
		{1, c.deleteOU},
	})
}

// people returns the live objects that may own addresses.
func (c *controller) people() []adsim.Entry {
	var list []adsim.Entry
	for e := range c.d.Live() {
		if e.Kind != adsim.OU && e.Kind != adsim.Container && strings.HasPrefix(e.DN, "CN=o") {
			list = append(list, e)
		}
	}
	return list
}

// newName returns a name that was never used.
func (f *forest) newName() string {
	f.w.made++
	return fmt.Sprintf("o%d", f.w.made)
}

// ou draws a container to put something into.
func (c *controller) ou() string {
	list := []string{"CN=Users," + c.f.base}
	for e := range c.d.Live() {
		if e.Kind == adsim.OU && !c.f.inChild(e.DN) {
			list = append(list, e.DN)
		}
	}
	return pick(c.f.w.rnd, list)
}

// move puts an object into another container of the domain.
func (c *controller) move(one adsim.Entry) {
	if ou := c.ou(); !c.f.inChild(one.DN) {
		c.act("move "+one.DN+" to "+ou, c.d.Move(one.GUID, ou))
	}
}

// wandering lists the OUs that may be moved and renamed: not those that bases name.
func (c *controller) wandering() []adsim.Entry {
	var list []adsim.Entry
	for e := range c.d.Live() {
		if e.Kind == adsim.OU && (strings.HasPrefix(e.DN, "OU=u") || strings.HasPrefix(e.DN, "OU=Sub")) {
			list = append(list, e)
		}
	}
	return list
}

func (c *controller) create(addresses ...string) {
	r := c.f.w.rnd
	kinds := []adsim.Kind{adsim.User, adsim.User, adsim.User, adsim.Group, adsim.Contact, adsim.PublicFolder,
		adsim.DynamicList, adsim.InetOrgPerson, adsim.Computer, adsim.ManagedService}
	attrs := adsim.Attrs{}
	for _, a := range addresses {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], c.f.proxy(a))
	}
	for r.IntN(2) == 0 {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], pick(r, []string{c.f.proxy(c.f.address()),
			c.f.proxy(c.f.address()),
			"X500:/o=Corp/cn=x", "sip:x@corp.example", "smtp:nobody"}))
	}
	if r.IntN(3) == 0 {
		attrs["mail"] = []string{c.f.address()}
	}
	if r.IntN(8) == 0 {
		attrs["msExchRecipientTypeDetails"] = []string{pick(r, []string{"1", "4", "16", "8192", "549755813888"})}
	}
	if r.IntN(8) == 0 {
		attrs["msExchRequireAuthToSendTo"] = []string{"TRUE"}
	}
	parent := c.ou()
	if r.IntN(10) == 0 {
		parent = "OU=People," + c.f.child()
	}
	dn := "CN=" + c.f.newName() + "," + parent
	kind := pick(r, kinds)
	_, err := c.d.Add(kind, dn, attrs)
	c.act(fmt.Sprintf("create %s, kind %d, %v", dn, kind, attrs), err)
}

func (c *controller) addAlias(e adsim.Entry, a string) {
	c.act(fmt.Sprintf("add %s to %s", a, e.DN), c.d.Modify(e.GUID, adsim.AddValues("proxyAddresses", c.f.proxy(a))))
}

// removeAlias takes one address away, if there is one.
func (c *controller) removeAlias(e adsim.Entry) {
	values := e.Attrs["proxyaddresses"]
	if len(values) == 0 {
		c.addAlias(e, c.f.address())
		return
	}
	v := pick(c.f.w.rnd, values)
	c.act(fmt.Sprintf("remove %s from %s", v, e.DN), c.d.Modify(e.GUID, adsim.RemoveValues("proxyAddresses", v)))
}

// rewrite gives an object other addresses, sometimes more than come in one answer.
func (c *controller) rewrite(e adsim.Entry) {
	var values []string
	for range 1 + c.f.w.rnd.IntN(12) {
		values = append(values, c.f.proxy(c.f.address()))
	}
	c.act(fmt.Sprintf("set %q on %s", values, e.DN), c.d.Modify(e.GUID, adsim.Set("proxyAddresses", values...)))
}

func (c *controller) setMail(e adsim.Entry) {
	var values []string
	if c.f.w.rnd.IntN(3) > 0 {
		values = []string{c.f.address()}
	}
	c.act(fmt.Sprintf("mail %q on %s", values, e.DN), c.d.Modify(e.GUID, adsim.Set("mail", values...)))
}

// moveAlias moves an address from one object to another, in either order. In one of them the address
// has no owner for a moment. A pass may run between the two steps.
func (c *controller) moveAlias(from, to adsim.Entry) {
	w := c.f.w
	values := from.Attrs["proxyaddresses"]
	if len(values) == 0 || from.GUID == to.GUID {
		c.addAlias(to, c.f.address())
		return
	}
	v := pick(w.rnd, values)
	add := func() {
		c.act(fmt.Sprintf("move %s: add to %s", v, to.DN), c.d.Modify(to.GUID, adsim.AddValues("proxyAddresses", v)))
	}
	remove := func() {
		c.act(fmt.Sprintf("move %s: remove from %s", v, from.DN),
			c.d.Modify(from.GUID, adsim.RemoveValues("proxyAddresses", v)))
	}
	halves := []func(){add, remove}
	if w.rnd.IntN(3) == 0 {
		halves = []func(){remove, add}
	}
	halves[0]()
	if w.inPass == 0 && w.rnd.IntN(4) == 0 {
		w.pass(c.f, false)
	}
	halves[1]()
}

// replaceObject deletes an object and makes another with its addresses, in one order or
// the other.
func (c *controller) replaceObject(e adsim.Entry) {
	addresses := e.Addresses()
	if len(addresses) == 0 {
		addresses = []string{c.f.address()}
	}
	if c.f.w.rnd.IntN(2) == 0 {
		c.create(addresses...)
		c.act("delete (replaced) "+e.DN, c.d.Delete(e.GUID))
		return
	}
	c.act("delete (to be replaced) "+e.DN, c.d.Delete(e.GUID))
	c.create(addresses...)
}

func (c *controller) disable(e adsim.Entry) {
	off := c.f.w.rnd.IntN(2) == 0
	c.act(fmt.Sprintf("disabled %t: %s", off, e.DN), c.d.SetDisabled(e.GUID, off))
}

func (c *controller) setType(e adsim.Entry) {
	v := pick(c.f.w.rnd, []string{"1", "4", "16", "8192", "549755813888", "34359738368", "68719476736", "2199023255552",
		"4398046511104"})
	c.act("type "+v+" for "+e.DN, c.d.Modify(e.GUID, adsim.Set("msExchRecipientTypeDetails", v)))
}

func (c *controller) setInternal(e adsim.Entry) {
	v := pick(c.f.w.rnd, []string{"TRUE", "FALSE"})
	c.act("internal only "+v+" for "+e.DN, c.d.Modify(e.GUID, adsim.Set("msExchRequireAuthToSendTo", v)))
}

// dead lists what may come back.
func (c *controller) dead() []adsim.Entry {
	var list []adsim.Entry
	for e := range c.d.Entries() {
		if e.Deleted && e.Kind != adsim.Container {
			list = append(list, e)
		}
	}
	return list
}

func (c *controller) undelete() {
	dead := c.dead()
	if len(dead) == 0 {
		return
	}
	e := pick(c.f.w.rnd, dead)
	to := pick(c.f.w.rnd, []string{"", c.ou()})
	if c.d.InChild(e.GUID) {
		to = ""
	}
	c.act(fmt.Sprintf("undelete %q to %q", e.DN, to), c.d.Undelete(e.GUID, to))
}

func (c *controller) recycle() {
	if dead := c.dead(); len(dead) > 0 {
		e := pick(c.f.w.rnd, dead)
		c.act(fmt.Sprintf("recycle %q", e.DN), c.d.Recycle(e.GUID))
	}
}

func (c *controller) makeOU() {
	if len(c.wandering()) > 6 {
		return
	}
	c.f.w.made++
	dn := fmt.Sprintf("OU=u%d,%s", c.f.w.made, c.ou())
	_, err := c.d.Add(adsim.OU, dn, nil)
	c.act("create "+dn, err)
}

func (c *controller) moveOU() {
	if ous := c.wandering(); len(ous) > 0 {
		e, to := pick(c.f.w.rnd, ous), c.ou()
		c.act("move "+e.DN+" to "+to, c.d.Move(e.GUID, to))
	}
}

func (c *controller) renameOU() {
	if ous := c.wandering(); len(ous) > 0 {
		e := pick(c.f.w.rnd, ous)
		c.f.w.made++
		c.act("rename "+e.DN, c.d.Rename(e.GUID, fmt.Sprint("u", c.f.w.made)))
	}
}

func (c *controller) deleteOU() {
	if ous := c.wandering(); len(ous) > 2 {
		e := pick(c.f.w.rnd, ous)
		c.act("delete "+e.DN, c.d.Delete(e.GUID))
	}
}
