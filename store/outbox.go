package store

import (
	"bytes"
	"fmt"
	"slices"
)

// The outbox has the objects of a directory whose ownerships changed and that were not published
// since. An object enters it in the transaction of its change, so a crash cannot separate them.
// The version of the f/ key is the number of the commit that wrote it. It shows whether the object
// changed after it was read.
//
// A follower must never see an address without an owner that moves from one object to another.
// The outbox therefore has two classes: all objects that gain come before all that only lose. An
// object that both gains and loses is first published with the addresses that it has lost, then
// without them; two objects may have exchanged theirs.
type outboxClass byte

const (
	outboxGains  outboxClass = 1 // it gained an address, or opened one to outside senders
	outboxLosses outboxClass = 2 // it only lost since it was last published
)

// An outboxRecord is the value of an f/ key. It has what the object lost since the entry was made,
// for all senders or for outside senders.
type outboxRecord struct{ lost []lostAddress }

type lostAddress struct {
	address      string
	internalOnly bool // before the loss
}

// outboxLimit limits the size of a record, in bytes. What was lost first is forgotten first. Then
// a follower may see an address without an owner that moved, until it has read the rest.
const outboxLimit = 32 << 10

func (r *outboxRecord) encode() []byte {
	e := newEncoder()
	e.uint(uint64(len(r.lost)))
	for _, a := range r.lost {
		e.string(a.address)
		e.bool(a.internalOnly)
	}
	return e
}

func decodeOutbox(value []byte) (outboxRecord, error) {
	d := newDecoder(value)
	r := outboxRecord{lost: make([]lostAddress, d.count())}
	for i := range r.lost {
		r.lost[i] = lostAddress{d.string(), d.bool()}
	}
	return r, d.done()
}

// An ownershipChange is how the ownerships of an object change in a unit, as lookups answer them.
type ownershipChange struct {
	gained bool
	lost   []lostAddress
	back   []lostAddress // what it has again or newly, as it is now
}

// note adds the change of one address.
func (c *ownershipChange) note(address string, was ownerFlags, there bool, is ownerFlags, stays bool) {
	switch {
	case stays && (!there || was.internalOnly && !is.internalOnly):
		c.gained = true
		c.back = append(c.back, lostAddress{address, is.internalOnly})
	case there && (!stays || !was.internalOnly && is.internalOnly):
		c.lost = append(c.lost, lostAddress{address, was.internalOnly})
	}
}

// any reports whether a follower has to learn of the change.
func (c *ownershipChange) any() bool { return c.gained || len(c.lost) > 0 }

// addTo returns what a record has lost after the change.
func (c *ownershipChange) addTo(r outboxRecord) outboxRecord {
	index := make(map[string]int, len(r.lost)+len(c.lost))
	lost := slices.Clone(r.lost)
	for i, a := range lost {
		index[a.address] = i
	}
	for _, a := range c.lost {
		if i, there := index[a.address]; there {
			lost[i].internalOnly = lost[i].internalOnly && a.internalOnly
			continue
		}
		index[a.address] = len(lost)
		lost = append(lost, a)
	}
	for _, a := range c.back { // an open address that is back internal-only is still lost to outside senders
		if i, there := index[a.address]; there && (lost[i].internalOnly || !a.internalOnly) {
			lost[i].address = ""
		}
	}
	lost = slices.DeleteFunc(lost, func(a lostAddress) bool { return a.address == "" })
	return outboxRecord{newestWithin(lost, outboxLimit)}
}

// newestWithin returns the end of a list that takes at most so many bytes.
func newestWithin(lost []lostAddress, limit int) []lostAddress {
	size := 0
	for i := len(lost) - 1; i >= 0; i-- {
		if size += len(lost[i].address) + outboxOverhead; size > limit {
			return lost[i+1:]
		}
	}
	return lost
}

// outboxOverhead limits what an address takes in a record besides its text.
const outboxOverhead = 4

// outboxStart is where the entries of each class begin, because passing over keys that Badger
// deleted takes time. The state lock guards it.
type outboxStart struct {
	from   [outboxLosses + 1]GUID // no entry has a lower GUID
	writes uint64                 // entries that were written
}

// enter adds to a unit an entry of the outbox.
func (u *unit) enter(d *directory, class outboxClass, guid GUID, r outboxRecord) {
	u.set(outboxKey(d.record.id, class, guid), r.encode())
	u.afterCommit(func() {
		d.outbox.writes++
		if bytes.Compare(guid[:], d.outbox.from[class][:]) < 0 {
			d.outbox.from[class] = guid
		}
	})
}

// setOutbox enters the change of an object in the outbox.
func (t *tx) setOutbox(u *unit, d *directory, guid GUID, change *ownershipChange) error {
	dir := d.record.id
	class, before, there, err := t.outbox(dir, guid)
	if err != nil {
		return err
	}
	next := outboxLosses
	if change.gained || class == outboxGains {
		next = outboxGains
	}
	after := change.addTo(before)
	u.enter(d, next, guid, after)
	switch {
	case !there:
		u.delta.dir(dir).outbox++
	case class != next:
		u.delete(outboxKey(dir, class, guid))
	}
	return nil
}

// outbox reads the entry of an object.
func (t *tx) outbox(dir dirID, guid GUID) (class outboxClass, r outboxRecord, there bool, err error) {
	for _, class := range []outboxClass{outboxGains, outboxLosses} {
		key := outboxKey(dir, class, guid)
		value, err := t.get(key)
		if err != nil {
			return 0, r, false, err
		}
		if value == nil {
			continue
		}
		if r, err = decodeOutbox(value); err != nil {
			err = t.s.unreadable(fmt.Sprintf("%x", key), err)
		}
		return class, r, true, err
	}
	return 0, r, false, nil
}

// published removes the entry of an object that was published as of a commit, unless the object
// changed after it. An object that was published with what it lost is entered again, to be
// published without.
func (t *tx) published(d *directory, guid GUID, commit uint64) error {
	dir := d.record.id
	if t.s.totals.Load().dirs[dir].outbox == 0 {
		return nil
	}
	for _, class := range []outboxClass{outboxGains, outboxLosses} {
		key := outboxKey(dir, class, guid)
		var record outboxRecord
		found, err := t.s.getItem(t.txn, key, func(value []byte) (err error) {
			record, err = decodeOutbox(value)
			return err
		})
		if err != nil {
			return t.s.unreadable(fmt.Sprintf("%x", key), err)
		}
		if found == 0 || found > commit {
			continue
		}
		u := &unit{}
		u.delete(key)
		if class == outboxGains && len(record.lost) > 0 {
			u.enter(d, outboxLosses, guid, record)
		} else {
			u.delta.dir(dir).outbox--
		}
		return t.add(u)
	}
	return nil
}

// emptyOutbox removes all entries of a directory whose feed is off.
func (s *Store) emptyOutbox(dir dirID) error {
	var entries [][]byte
	err := s.scan(dirKey(prefixOutbox, dir), true, func(kv pair) error {
		entries = append(entries, kv.key)
		return nil
	})
	if err != nil {
		return err
	}
	return writeInChunks(s, entries, func(t *tx, key []byte) error {
		value, err := t.get(key)
		if err != nil || value == nil { // published meanwhile
			return err
		}
		u := &unit{}
		u.delete(key)
		u.delta.dir(dir).outbox--
		return t.add(u)
	})
}

// countOutbox counts the entries of all directories.
func (r reader) countOutbox(count *totalsDelta) error {
	return r.scan([]byte(prefixOutbox), false, func(kv pair) error {
		if _, err := decodeOutbox(kv.value); err != nil {
			return r.s.markDamaged(r.s.unreadable(fmt.Sprintf("%x", kv.key), err))
		}
		count.dir(dirOf(kv.key)).outbox++
		return nil
	})
}
