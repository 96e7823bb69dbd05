package store

import "bytes"

// totalsDelta is how a transaction, or a change within one, changes the totals. The zero value
// changes nothing. For the changes of an object see objectDelta.
type totalsDelta struct {
	nextPass  uint64 // the next pass has at least this number
	nextDir   dirID  // the next directory has at least this id
	addresses int64
	objects   int64
	unparsed  int64
	digest    digest
	domains   map[string]int64
	dirs      map[dirID]*dirDelta
}

type dirDelta struct {
	dirCounts
	due  map[string]int64 // by domain
	last map[string]int64
}

// eachDomain visits the domains with changed counts of due marks, or of addresses that these
// leave without an owner.
func (d *dirDelta) eachDomain(visit func(domain string, due, last int64) error) error {
	for domain, due := range d.due {
		if err := visit(domain, due, d.last[domain]); err != nil {
			return err
		}
	}
	for domain, last := range d.last {
		if _, visited := d.due[domain]; visited {
			continue
		}
		if err := visit(domain, 0, last); err != nil {
			return err
		}
	}
	return nil
}

func (c *totalsDelta) dir(id dirID) *dirDelta {
	d := c.dirs[id]
	if d == nil {
		if c.dirs == nil {
			c.dirs = map[dirID]*dirDelta{}
		}
		d = &dirDelta{}
		c.dirs[id] = d
	}
	return d
}

func addTo(m *map[string]int64, key string, n int64) {
	if *m == nil {
		*m = map[string]int64{}
	}
	(*m)[key] += n
}

// address counts the change of an a/ record.
func (c *totalsDelta) address(a string, before, after *addressRecord) {
	c.countOwned(a, before, -1)
	c.countOwned(a, after, 1)
	c.owners(a, before.owners, after.owners)
}

func (c *totalsDelta) countOwned(a string, r *addressRecord, n int64) {
	if !r.known() {
		return
	}
	domain := domainOf(a)
	c.addresses += n
	addTo(&c.domains, domain, n)
	if d := addressDigest(a, r.internalOnly()); n > 0 {
		c.digest.add(d)
	} else {
		c.digest.sub(d)
	}
	if dir, ok := r.lostWith(); ok {
		addTo(&c.dir(dir).last, domain, n)
	}
}

// object counts the change of an o/ record.
func (c *totalsDelta) object(dir dirID, guid GUID, before, after *objectRecord) {
	c.unparsed += int64(after.unparsed) - int64(before.unparsed)
	c.due(dir, before, -1)
	c.due(dir, after, 1)
	c.recorded(dir, guid, before.addresses, after.addresses)
	was, is := before.counts(), after.counts()
	c.objects += is.objects - was.objects
	if was == is {
		return
	}
	d := &c.dir(dir).dirCounts
	d.add(is)
	d.sub(was)
}

// due counts the due marks of a record by domain.
func (c *totalsDelta) due(dir dirID, r *objectRecord, n int64) {
	for i := range r.addresses {
		if a := &r.addresses[i]; !a.mark.isZero() && a.due() {
			addTo(&c.dir(dir).due, domainOf(a.address), n)
		}
	}
}

// counts returns what the record of an object adds to the counts of its directory.
func (r *objectRecord) counts() dirCounts {
	c := dirCounts{owned: int64(len(r.addresses))}
	for i := range r.addresses {
		switch a := &r.addresses[i]; {
		case a.mark.isZero():
		case a.due():
			c.due++
		default:
			c.waiting++
		}
	}
	if c.owned > 0 {
		c.objects = 1
	}
	if c.due > 0 {
		c.leaving = 1
	}
	if c.due+c.waiting > 0 {
		c.marked = 1
	}
	return c
}

// add adds another change.
func (c *totalsDelta) add(o *totalsDelta) {
	c.nextPass, c.nextDir = max(c.nextPass, o.nextPass), max(c.nextDir, o.nextDir)
	c.addresses += o.addresses
	c.objects += o.objects
	c.unparsed += o.unparsed
	c.digest.add(o.digest)
	for domain, n := range o.domains {
		addTo(&c.domains, domain, n)
	}
	for id, change := range o.dirs {
		d := c.dir(id)
		d.dirCounts.add(change.dirCounts)
		for domain, n := range change.due {
			addTo(&d.due, domain, n)
		}
		for domain, n := range change.last {
			addTo(&d.last, domain, n)
		}
	}
}

// newKeys returns how many entries and bytes the counts of another change take, besides those
// that are already changed.
func (c *totalsDelta) newKeys(o *totalsDelta) (entries, bytes int64) {
	count := func(key int) {
		entries++
		bytes += entryOverhead + int64(key) + countSize
	}
	for domain := range o.domains {
		if _, there := c.domains[domain]; !there {
			count(len(prefixDomain) + len(domain))
		}
	}
	for id, change := range o.dirs {
		d := c.dirs[id]
		if d == nil {
			d = &dirDelta{}
			count(len(prefixCounts) + dirIDSize)
		}
		_ = change.eachDomain(func(domain string, _, _ int64) error { // never fails
			_, due := d.due[domain]
			if _, last := d.last[domain]; !due && !last {
				count(len(prefixLeaving) + dirIDSize + len(domain))
			}
			return nil
		})
	}
	return entries, bytes
}

// countSize limits the size of a count's value: a version byte, eight integers and two sums.
const countSize = 1 + 8*10 + 2*16

// entries visits the entries to write for the totals after the change. A nil value deletes the
// key.
func (c *totalsDelta) entries(before, after *totals, visit func(key, value []byte) error) error {
	counters := after.counters()
	if err := visitIf(!bytes.Equal(before.counters(), counters), visit, []byte(keyTotals), counters); err != nil {
		return err
	}
	for domain, n := range c.domains {
		if err := visitIf(n != 0, visit, domainKey(domain), countsValue(after.domains.of(domain))); err != nil {
			return err
		}
	}
	for id, change := range c.dirs {
		d := after.dirs[id]
		value := d.encode()
		if d.dirCounts == (dirCounts{}) {
			value = nil
		}
		if err := visitIf(change.dirCounts != (dirCounts{}), visit, dirKey(prefixCounts, id), value); err != nil {
			return err
		}
		err := change.eachDomain(func(domain string, due, last int64) error {
			value := countsValue(d.dueIn.of(domain), d.last.of(domain))
			return visitIf(due != 0 || last != 0, visit, leavingKey(id, domain), value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func visitIf(changed bool, visit func(key, value []byte) error, key, value []byte) error {
	if !changed {
		return nil
	}
	return visit(key, value)
}

// countsValue encodes counts. It returns nil, which means no key, if all are zero.
func countsValue(counts ...int64) []byte {
	e, any := newEncoder(), false
	for _, n := range counts {
		e.uint(uint64(n))
		any = any || n != 0
	}
	if !any {
		return nil
	}
	return e
}

// totals reads the totals from disk.
func (r reader) totals() (totals, error) {
	value, err := r.get([]byte(keyTotals))
	if err != nil {
		return totals{}, err
	}
	t, err := decodeCounters(value)
	if err != nil {
		return t, r.s.unreadable(keyTotals, err)
	}
	var all totalsDelta
	err = r.loadCounts(prefixDomain, func(key, value []byte) error { return loadCounts(key, value, &all.domains) })
	if err != nil {
		return t, err
	}
	err = r.loadCounts(prefixCounts, func(key, value []byte) (err error) {
		all.dir(dirOf(key)).dirCounts, err = decodeDirCounts(value)
		return err
	})
	if err != nil {
		return t, err
	}
	err = r.loadCounts(prefixLeaving, func(key, value []byte) error {
		d := all.dir(dirOf(key))
		return loadCounts(key[dirIDSize:], value, &d.due, &d.last)
	})
	return t.after(&all), err
}

func (r reader) loadCounts(prefix string, visit func(key, value []byte) error) error {
	return r.scan([]byte(prefix), false, func(kv pair) error {
		if err := visit(kv.key, kv.value); err != nil {
			return r.s.unreadable(string(kv.key), err)
		}
		return nil
	})
}

// loadCounts reads the counts of the domain at the end of a key, after its prefix.
func loadCounts(key, value []byte, counts ...*map[string]int64) error {
	d := newDecoder(value)
	for _, m := range counts {
		if n := int64(d.uint()); n != 0 {
			addTo(m, string(key[len(prefixDomain):]), n)
		}
	}
	return d.done()
}
