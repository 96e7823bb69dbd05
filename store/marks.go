package store

import (
	"maps"
	"slices"
	"time"

	"rcpt-milter/address"
)

// A mark on an address says that a pass did not find it any more. It has no effect
// before a completed pass releases it.

// Pending is what releasing the marks of a directory would take away.
type Pending struct {
	Owned   int            // addresses that an object loses
	Last    map[string]int // of these, addresses that would have no owner left, by domain
	Objects int            // objects that lose addresses
	Domains map[string]DomainLoss
}

// Addresses is how many addresses would have no owner left.
func (p Pending) Addresses() int {
	n := 0
	for count := range maps.Values(p.Last) {
		n += count
	}
	return n
}

// Pending reads the marks: those of this pass and those held back before it.
func (p *Pass) Pending() (Pending, error) { return p.pendingUpTo(p.upTo) }

func (p *Pass) pendingUpTo(upTo uint64) (Pending, error) {
	pending := Pending{Last: map[string]int{}, Domains: map[string]DomainLoss{}}
	leaving := map[string][]GUID{}
	id := p.dir.record.id
	err := p.s.scan(dirKey(prefixMarked, id), true, func(kv pair) error {
		stored, err := p.s.object(id, guidOf(kv.key))
		if err != nil {
			return err
		}
		_, gone := release(stored, p.now(), upTo, nil)
		for _, a := range gone {
			leaving[a.address] = append(leaving[a.address], guidOf(kv.key))
		}
		pending.Owned += len(gone)
		pending.Objects++
		return nil
	})
	if err != nil {
		return pending, err
	}
	for a, guids := range leaving {
		domain := domainOf(a)
		loss := pending.Domains[domain]
		loss.Owned += len(guids)
		record, err := p.s.addressRecord(a)
		if err != nil {
			return pending, err
		}
		for _, guid := range guids {
			record.remove(id, guid)
		}
		if !record.known() {
			pending.Last[domain]++
			loss.Last++
		}
		pending.Domains[domain] = loss
	}
	return pending, nil
}

// Loses reports whether releasing the marks of the directory would leave nobody who has
// a known address.
func (p *Pass) Loses(a address.Address) (bool, error) {
	return p.s.leaving(a.String(), p.dir.record.id, func(owned ownedRecord) bool { return !owned.notBefore.After(p.now()) })
}

// clearMarks clears what passes after the last committed one marked, and makes no other
// mark wait for longer than the lag from now.
func (p *Pass) clearMarks(lastPass uint64) error {
	if p.dir.marked == 0 {
		return nil
	}
	id := p.dir.record.id
	var latest time.Time
	if p.lag > 0 { // an approval knows of none
		latest = p.now().Add(p.lag)
	}
	var marked []GUID
	err := p.s.scan(dirKey(prefixMarked, id), true, func(kv pair) error {
		marked = append(marked, guidOf(kv.key))
		return nil
	})
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(marked, sweepChunk) {
		err := p.s.write(func(t *tx) error {
			for _, guid := range chunk {
				stored, err := t.object(id, guid)
				if err != nil {
					return err
				}
				next := unmark(stored, lastPass, latest)
				if next.equal(&stored) {
					continue
				}
				if err := p.setObject(t, guid, &stored, &next); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
