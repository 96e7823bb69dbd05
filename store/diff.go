package store

import (
	"slices"
	"time"

	"rcpt-milter/address"
)

// Object is what a pass read of one directory entry, already judged: it owns exactly
// these addresses.
type Object struct {
	GUID      GUID
	Class     string // the word that `lookup` shows, for example "user"
	DN        string
	USN       uint64 // uSNChanged, recorded with the addresses learned from it
	Container bool   // an OU or container, kept to notice that it moved
	Deleted   bool   // a tombstone: it owns nothing, whatever it still names
	// Heard is when the controller that has the tombstone got it, by our clock; zero: not
	// known. What was learned before is gone for certain.
	Heard    time.Time
	Unparsed int // values that are meant as SMTP addresses and should be corrected
	// Unread are these values, all of them or the first ones.
	Unread    []UnreadValue
	Addresses []Owned
	// Unsettled: it changed after the pass began to read. What it lost, another object
	// may have gained unseen, so that its losses are left to the next pass, which reads
	// it again.
	Unsettled bool
}

// Owned is one address of an object. Where two attributes of an object hold the same
// address, the first one counts.
type Owned struct {
	Address    address.Address
	Attribute  string
	Restricted bool // its owner takes mail from inside senders only
}

// delta is what diff found, by address.
type delta struct {
	added []ownedRecord // new to this object: live as soon as it is written
	flags []ownedRecord // restricted flag changed: live as soon as it is written, see lenient
	gone  int           // newly marked: live only when a completed pass releases it
}

// diff compares what is stored of an object with what now was read, and gives the
// record to store. It is a pure function, and the only place that says what a change
// is. An address that is not there any more stays in the record, marked with the pass
// that missed it; one that came back loses its mark, and counts as taught by who has it
// again.
//
// A domain controller may not have heard yet of what another one taught us within lag,
// its replication lag: such an address is marked, and not released before it must have.
// Another one taught an address when we learned it there, and all that is stored when it
// was last read to its end (before; zero: no other one was, since). A tombstone is no
// absence, unless the controller had it before that: the other one may have seen the
// object come back.
func diff(stored objectRecord, read Object, now stamp, lag time.Duration, before time.Time) (objectRecord, delta) {
	next := objectRecord{class: read.Class, dn: read.DN, container: read.Container, unparsed: uint64(read.Unparsed)}
	if read.Deleted && stored.dn != "" { // the name of a tombstone does not say where it lived
		next.dn = stored.dn
	}
	var d delta
	index := make(map[string]int, len(stored.addresses))
	for i, a := range stored.addresses {
		index[a.address] = i
	}
	seen := make(map[string]bool, len(read.Addresses))
	for _, a := range read.Addresses {
		text := a.Address.String()
		if text == "" || seen[text] {
			continue
		}
		seen[text] = true
		entry := ownedRecord{address: text, attribute: a.Attribute, restricted: a.Restricted, learned: now}
		if i, known := index[text]; !known {
			d.added = append(d.added, entry)
		} else {
			entry.learned, entry.again = stored.addresses[i].learned, stored.addresses[i].again
			if !stored.addresses[i].gone.isZero() {
				entry.again = now
			}
			if entry.restricted != stored.addresses[i].restricted {
				d.flags = append(d.flags, entry)
			}
		}
		next.addresses = append(next.addresses, entry)
	}
	for _, a := range stored.addresses {
		if seen[a.address] {
			continue
		}
		if read.Unsettled {
			a.gone, a.notBefore = stamp{}, time.Time{}
			next.addresses = append(next.addresses, a)
			continue
		}
		if a.gone.isZero() {
			a.gone, a.notBefore = now, time.Time{}
			if taught := a.elsewhere(now.origin, before); !taught.IsZero() && !read.knows(taught) {
				a.notBefore = earlier(taught, now.time).Add(lag)
			}
			d.gone++
		} else if read.knows(a.taught().time) {
			a.notBefore = time.Time{}
		}
		next.addresses = append(next.addresses, a)
	}
	return next, d
}

// elsewhere is when another database than that of origin last taught the address; zero: it
// did not.
func (r *ownedRecord) elsewhere(origin originID, before time.Time) time.Time {
	if by := r.taught(); by.origin != origin && by.time.After(before) {
		return by.time
	}
	return before
}

// knows reports whether the object was deleted after something was learned of it.
func (o Object) knows(learned time.Time) bool { return o.Deleted && o.Heard.After(learned) }

// lenient gives what was read without the restrictions that are new, and says whether
// there are any. To outside senders a restriction is a removal, and takes effect when
// removals do.
func lenient(stored objectRecord, read Object) (Object, bool) {
	open := make(map[string]bool, len(stored.addresses))
	for _, a := range stored.addresses {
		open[a.address] = !a.restricted
	}
	eased := false
	for i, a := range read.Addresses {
		if !a.Restricted || !open[a.Address.String()] {
			continue
		}
		if !eased {
			read.Addresses, eased = slices.Clone(read.Addresses), true
		}
		read.Addresses[i].Restricted = false
	}
	return read, eased
}

// vanished is what a full pass makes of an object that it did not see: it keeps its
// name, and owns nothing.
func vanished(guid GUID, stored objectRecord) Object {
	return Object{GUID: guid, Class: stored.class, DN: stored.dn}
}

// release splits a record into what stays and the addresses that now go: those whose
// mark may be released at that time, is of no later pass than upTo, and whose domain is
// not held.
func release(stored objectRecord, at time.Time, upTo uint64, held heldDomains) (kept objectRecord, gone []ownedRecord) {
	kept = stored
	kept.addresses = nil
	for _, a := range stored.addresses {
		if a.gone.isZero() || a.notBefore.After(at) || a.gone.pass > upTo || held.keeps(a.address) {
			kept.addresses = append(kept.addresses, a)
		} else {
			gone = append(gone, a)
		}
	}
	return kept, gone
}

// earlier is the earlier of two times. A time in the future, written down before the
// clock was set back, says nothing.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// unmark clears the marks of passes after the last committed one: an unfinished pass
// may have read a controller that nobody follows any more. No other mark waits beyond
// the latest time (zero: there is none): it would if the clock was set back.
func unmark(stored objectRecord, lastPass uint64, latest time.Time) objectRecord {
	kept := stored
	kept.addresses = append([]ownedRecord(nil), stored.addresses...)
	for i, a := range kept.addresses {
		if a.gone.pass > lastPass {
			kept.addresses[i].gone, kept.addresses[i].notBefore = stamp{}, time.Time{}
		} else if !latest.IsZero() {
			kept.addresses[i].notBefore = earlier(a.notBefore, latest)
		}
	}
	return kept
}
