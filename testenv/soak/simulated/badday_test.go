package simulated

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

const (
	minFree = 1 << 20

	longAddresses = 1200 // of a long object
	manyAliases   = 20
)

// disk is the free space of the file system of the store.
type disk struct {
	full    bool
	commits int  // that still fit once it fills up
	refused bool // a commit did not fit
}

// freeSpace is asked by the store before each commit.
func (w *world) freeSpace(string) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.disk.full && w.disk.commits == 0 {
		w.disk.refused = true
		return minFree - 1, nil
	}
	if w.disk.full {
		w.disk.commits--
	}
	return math.MaxInt64, nil
}

func (w *world) setDisk(d disk) (before disk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, w.disk = w.disk, d
	return before
}

// fillDisk fills the disk during passes, while objects change. No failure may lose a known address.
// Then there is room again, sometimes after a crash.
func (w *world) fillDisk(f *forest) {
	d := disk{full: true, commits: w.rnd.IntN(7)}
	w.note("the disk is full after %d commits", d.commits)
	w.setDisk(d)
	for range 1 + w.rnd.IntN(3) {
		before := w.setDisk(d)
		r := w.pass(f, w.rnd.IntN(3) == 0)
		after := w.setDisk(disk{full: true})
		d.commits = after.commits
		// and the incremental one before it was good
		fullFailed := errors.Is(f.mirror.Status().FullError, store.ErrNoSpace)
		if after.refused && r.Err == nil && !fullFailed || !after.refused && errors.Is(r.Err, store.ErrNoSpace) {
			w.fail("%s: a pass on a full disk (refused a commit: %t, before: %+v): %v", f.name, after.refused, before,
				r.Err)
		}
		w.change(w.place()) // after the check, because it may run a pass of its own
	}
	if f.mirror.Status().HoldReason != "" && w.rnd.IntN(2) == 0 {
		info, err := w.store.Approve(f.name, math.MaxUint64, w.store.Directory(f.name).Fingerprint, w.now())
		w.note("%s: approval on a full disk: %d, %v", f.name, info.Removed, err)
		w.check("after an approval on a full disk")
	}
	image := ""
	if w.rnd.IntN(3) == 0 {
		image = w.image()
	}
	w.setDisk(disk{})
	w.note("the disk has room again (crash: %t)", image != "")
	if image != "" {
		w.reopen(image)
	}
}

// hideUSNOf takes away the right to read uSNChanged of some objects, or gives it back. Only
// full passes see what changes of such an object.
func (w *world) hideUSNOf(f *forest) {
	if len(f.unfollowed) > 2 {
		f.showUSN()
		return
	}
	people := pick(w.rnd, f.controllers).people()
	if len(people) == 0 {
		return
	}
	one := pick(w.rnd, people)
	f.unfollowed[one.GUID] = true
	for _, c := range f.controllers {
		c.d.HideOf(one.GUID, "uSNChanged")
		c.view.missUnread(w.step, one.GUID, c.known(one.GUID))
		w.observe(c)
	}
	f.owesFull = "an object hid uSNChanged"
	w.note("%s: uSNChanged of %s cannot be read", f.name, one.DN)
}

func (f *forest) showUSN() {
	byGUID := func(a, b adsim.GUID) int { return bytes.Compare(a[:], b[:]) }
	for _, guid := range slices.SortedFunc(maps.Keys(f.unfollowed), byGUID) {
		for _, c := range f.controllers {
			c.d.HideOf(guid)
		}
		f.w.note("%s: uSNChanged of %s can be read again", f.name, guid)
	}
	if len(f.unfollowed) > 0 {
		f.owesFull = "objects showed uSNChanged again"
	}
	clear(f.unfollowed)
}

// long lists the live long objects.
func (c *controller) long() []adsim.Entry {
	var list []adsim.Entry
	for _, e := range c.people() {
		if len(e.Attrs["proxyaddresses"]) > longAddresses/3 {
			list = append(list, e)
		}
	}
	return list
}

// changeLong makes an object with many addresses, or changes it. There is at most one, because it
// takes long to read.
func (c *controller) changeLong() {
	w := c.f.w
	list := c.long()
	if len(list) == 0 {
		w.made++
		var values []string
		for n := range longAddresses {
			values = append(values, fmt.Sprintf("smtp:long%d.%d@%s", w.made, n, c.f.domain))
		}
		dn := "CN=" + c.f.newName() + "," + c.ou()
		_, err := c.d.Add(adsim.Group, dn, adsim.Attrs{"proxyAddresses": values})
		c.act(fmt.Sprintf("create %s with %d addresses", dn, len(values)), err)
		return
	}
	one := list[0]
	values := one.Attrs["proxyaddresses"]
	w.choose([]operation{
		{3, func() { c.act("delete "+one.DN, c.d.Delete(one.GUID)) }},
		{2, func() {
			values = values[w.rnd.IntN(len(values)):]
			c.act(fmt.Sprintf("%d addresses remain of %s", len(values), one.DN),
				c.d.Modify(one.GUID, adsim.Set("proxyAddresses", values...)))
		}},
		{1, func() { c.setInternal(one) }},
		{1, func() { c.disable(one) }},
		{1, func() { c.addAlias(one, c.f.address()) }},
	})
}

// manyAliases gives an object many aliases.
func (c *controller) manyAliases(e adsim.Entry) {
	var values []string
	for range manyAliases {
		values = append(values, c.f.proxy(c.f.address()))
	}
	c.act(fmt.Sprintf("set %q on %s", values, e.DN), c.d.Modify(e.GUID, adsim.Set("proxyAddresses", values...)))
}

// strip takes the addresses of a domain from most objects, as a wrong script does.
func (c *controller) strip(domain string) {
	for _, e := range c.people() {
		rest := slices.DeleteFunc(slices.Clone(e.Attrs["proxyaddresses"]), func(v string) bool {
			return strings.HasSuffix(strings.ToLower(v), "@"+domain)
		})
		if len(rest) < len(e.Attrs["proxyaddresses"]) && c.f.w.rnd.IntN(6) > 0 {
			c.act("strip "+e.DN+" of "+domain, c.d.Modify(e.GUID, adsim.Set("proxyAddresses", rest...),
				adsim.Set("mail")))
		}
	}
}

// sampled reports whether this step checks an address. Of a long object each step checks one address
// in fifty, in turns.
func (w *world) sampled(key string) bool {
	return !strings.HasPrefix(key, "long") || w.inTurn(key, 50)
}

// inTurn reports whether it is the turn of a key: each has its turn once in n steps.
func (w *world) inTurn(key string, n int) bool {
	return crc32.ChecksumIEEE([]byte(key))%uint32(n) == uint32(w.step%n)
}

// known lists the addresses of the index by domain.
func (w *world) known() map[string]map[string]bool {
	known := map[string]map[string]bool{}
	err := w.store.Addresses(func(a address.Address, _ bool) error {
		if known[a.Domain()] == nil {
			known[a.Domain()] = map[string]bool{}
		}
		known[a.Domain()][a.String()] = true
		return nil
	})
	if err != nil {
		w.fail("reading the index: %v", err)
	}
	return known
}

// guardedDomains checks that a pass removed no more addresses of a domain than the guard allows. It
// does not count earlier removals of the window, so it accepts more than the guard.
func (f *forest) guardedDomains(before map[string]map[string]bool) {
	after := f.w.known()
	for domain, addresses := range before {
		lost, left := 0, len(after[domain])
		for a := range addresses {
			if !after[domain][a] {
				lost++
			}
		}
		share := 100 * float64(lost) / float64(lost+left)
		tooMany := left == 0 || f.guard.Share > 0 && lost >= 3 && share > f.guard.Share
		if lost > 0 && f.guard.Max > 0 && tooMany {
			f.w.fail("the guard %+v released %d addresses of %s at once, %d are left", f.guard, lost, domain, left)
		}
	}
}
