package store

import (
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
	Deletion  Deletion
	Read      time.Time // when it was read, by our clock; zero: when the pass began
	Unparsed  int       // values that are meant as SMTP addresses and should be corrected
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
	Address      address.Address
	Attribute    string
	InternalOnly bool // its owner takes mail from inside senders only
}

// Death says when an object was deleted for certain. The zero value says nothing: the
// deletion may be older than the object's return, of which its controller has not heard.
type Deletion struct {
	After    time.Time // it was deleted after that, by our clock; zero: not known
	Database string    // where it was deleted
	USN      uint64    // under which it was deleted there
}

// delta is what diff found, by address.
type objectDelta struct {
	added  []ownedRecord // new to this object: live as soon as it is written
	opened int           // not restricted any more: live as soon as it is written
	marked int           // newly marked: live only when a completed pass releases it
}

// diff compares what is stored of an object with what now was read, and gives the
// record to store. It is a pure function, and the only place that says what a change
// is. An address that is not there any more stays in the record, marked with the pass
// that missed it; one that came back loses its mark, and counts as taught by the database
// that has it again. One that is restricted now is lost to outside senders: it stays open
// with a mark that closes it. How long a mark waits, and which marks are judged anew, says
// judge.
func diff(stored objectRecord, read Object, j judge) (objectRecord, objectDelta) {
	next := objectRecord{class: read.Class, dn: read.DN, container: read.Container, unparsed: uint64(read.Unparsed)}
	if read.Deleted && stored.dn != "" { // the name of a tombstone does not say where it lived
		next.dn = stored.dn
	}
	var d objectDelta
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
		entry := ownedRecord{address: text, attribute: a.Attribute, internalOnly: a.InternalOnly, learned: j.stampOf(read)}
		if i, known := index[text]; !known {
			d.added = append(d.added, entry)
		} else {
			entry = j.mergeAddress(stored.addresses[i], entry, read, &d)
		}
		next.addresses = append(next.addresses, entry)
	}
	for _, a := range stored.addresses {
		if seen[a.address] {
			continue
		}
		if read.Unsettled {
			next.addresses = append(next.addresses, a.unmarked())
			continue
		}
		if a.gone.isZero() || a.becomesInternalOnly {
			d.marked++
		}
		next.addresses = append(next.addresses, j.mark(a, read, false))
	}
	return next, d
}

// again returns the record of an address that was stored and is read again.
func (j judge) mergeAddress(stored, entry ownedRecord, read Object, d *objectDelta) ownedRecord {
	entry.learned, entry.lastSource = stored.learned, stored.lastSource
	closes := entry.internalOnly && !stored.internalOnly
	if !stored.gone.isZero() && !(stored.becomesInternalOnly && closes) || stored.internalOnly && !entry.internalOnly {
		entry.lastSource = j.stampOf(read)
	}
	if stored.internalOnly && !entry.internalOnly {
		d.opened++
	}
	if !closes {
		return entry
	}
	entry.internalOnly = false
	if read.Unsettled {
		return entry
	}
	if stored.becomesInternalOnly {
		entry.gone, entry.notBefore, entry.rules, entry.seen, entry.becomesInternalOnly =
			stored.gone, stored.notBefore, stored.rules, stored.seen, true
	} else {
		d.marked++
	}
	return j.mark(entry, read, true)
}

// vanished is what a full pass makes of an object that it did not see: it keeps its
// name, and owns nothing.
func missingObject(guid GUID, stored objectRecord) Object {
	return Object{GUID: guid, Class: stored.class, DN: stored.dn}
}

// release splits a record into what stays and the addresses that now go, for all or for
// outside senders: those whose mark may be released at that time, is of no later pass than
// upTo, and whose domain is not held. An address that is closed stays, restricted.
func release(stored objectRecord, at time.Time, upTo uint64, held heldDomains) (kept objectRecord, gone []ownedRecord) {
	kept = stored
	kept.addresses = nil
	for _, a := range stored.addresses {
		if a.gone.isZero() || a.notBefore.After(at) || a.gone.pass > upTo || held.holds(a.address) {
			kept.addresses = append(kept.addresses, a)
			continue
		}
		gone = append(gone, a)
		if a.becomesInternalOnly {
			a = a.unmarked()
			a.internalOnly = true
			kept.addresses = append(kept.addresses, a)
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
			kept.addresses[i] = a.unmarked()
		} else if !latest.IsZero() {
			kept.addresses[i].notBefore = earlier(a.notBefore, latest)
		}
	}
	return kept
}
