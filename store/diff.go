package store

import (
	"time"

	"rcpt-milter/address"
)

// Object is what a pass read of one directory entry. The mirror has already decided which
// addresses it owns: exactly these.
type Object struct {
	GUID      GUID
	Class     string // the word that lookup prints, for example "user"
	DN        string
	USN       uint64 // uSNChanged, recorded with the addresses learned from it
	Container bool   // an OU or container, stored to detect that it moved
	Deleted   bool   // a tombstone: it owns nothing, even if it still has addresses
	Deletion  Deletion
	Read      time.Time // when it was read, by the local clock; zero means when the pass began
	Unparsed  int       // values that are meant as SMTP addresses and need correction
	// Unread lists these values, all of them or the first ones.
	Unread    []UnreadValue
	Addresses []Owned
	// Unsettled means that the object changed after the pass began to read. Another object may
	// have gained the lost address unseen, so the losses wait for the next pass, which reads the
	// object again.
	Unsettled bool
}

// Owned is one address of an object. If two attributes of an object have the same address, the
// first one counts.
type Owned struct {
	Address      address.Address
	Attribute    string
	InternalOnly bool // the object accepts mail from internal senders only
}

// Deletion is when an object was certainly deleted. The zero value means unknown: the deletion
// may be older than a restoration of the object that its controller has not received yet.
type Deletion struct {
	After    time.Time // deleted after this time, by the local clock; zero means unknown
	Database string    // the database in which it was deleted
	USN      uint64    // the USN of the deletion there
}

// objectDelta is what diff found, by address.
type objectDelta struct {
	added  []ownedRecord // new to this object, in effect as soon as they are written
	marked int           // newly marked, in effect when a completed pass releases them
}

// diff compares the stored record of an object with what was read now, and returns the record to
// store. It is a pure function and the only place that decides what a change is. An address that
// was read takes effect as mergeAddress describes; an address that is missing stays, marked with
// the pass that missed it. The judge decides how long a mark waits and which marks are evaluated
// again.
func diff(stored objectRecord, read Object, j judge) (objectRecord, objectDelta) {
	next := objectRecord{class: read.Class, dn: read.DN, container: read.Container, unparsed: uint64(read.Unparsed)}
	if read.Deleted && stored.dn != "" { // the name of a tombstone does not show the former place
		next.dn = stored.dn
	}
	var d objectDelta
	seen := j.mergeRead(&next, &stored, read, &d)
	j.markMissing(&next, &stored, read, seen, &d)
	return next.arranged(j.inline), d
}

// mergeRead adds the addresses that were read to next, each once and in the order of the
// directory. It returns the set of them.
func (j judge) mergeRead(next, stored *objectRecord, read Object, d *objectDelta) (seen map[string]bool) {
	index := make(map[string]int, len(stored.addresses))
	for i, a := range stored.addresses {
		index[a.address] = i
	}
	seen = make(map[string]bool, len(read.Addresses))
	for _, a := range read.Addresses {
		text := a.Address.String()
		if text == "" || seen[text] {
			continue
		}
		seen[text] = true
		entry := ownedRecord{address: text, attribute: a.Attribute, internalOnly: a.InternalOnly,
			learned: j.stampOf(read)}
		if i, known := index[text]; !known {
			d.added = append(d.added, entry)
		} else {
			entry = j.mergeAddress(stored.addresses[i], entry, read, d)
		}
		next.addresses = append(next.addresses, entry)
	}
	return seen
}

// markMissing adds the stored addresses that were not read to next, with marks. An unsettled
// object keeps them without marks.
func (j judge) markMissing(next, stored *objectRecord, read Object, seen map[string]bool, d *objectDelta) {
	for _, a := range stored.addresses {
		switch {
		case seen[a.address]:
		case read.Unsettled:
			next.addresses = append(next.addresses, a.unmarked())
		default:
			if a.mark.isZero() || a.becomesInternalOnly {
				d.marked++
			}
			next.addresses = append(next.addresses, j.mark(a, read, false))
		}
	}
}

// mergeAddress returns the record of an address that was stored and is read again. An address
// that came back loses its mark, and the database that has it again becomes its last source. An
// address that is internal-only now is lost to outside senders: it stays open, with a mark that
// makes it internal-only.
func (j judge) mergeAddress(stored, entry ownedRecord, read Object, d *objectDelta) ownedRecord {
	entry.learned, entry.lastSource = stored.learned, stored.lastSource
	becomes := entry.internalOnly && !stored.internalOnly
	opens := stored.internalOnly && !entry.internalOnly
	cameBack := !stored.mark.isZero() && !(stored.becomesInternalOnly && becomes)
	if cameBack || opens {
		entry.lastSource = j.stampOf(read)
	}
	if !becomes {
		return entry
	}
	entry.internalOnly = false
	if read.Unsettled {
		return entry
	}
	if stored.becomesInternalOnly {
		entry.mark, entry.notBefore, entry.rules, entry.seen = stored.mark, stored.notBefore, stored.rules, stored.seen
		entry.becomesInternalOnly, entry.undeleted = true, stored.undeleted
	} else {
		d.marked++
	}
	return j.mark(entry, read, true)
}

// missingObject is what a full pass reads of an object that it did not see: the object keeps its
// name and owns nothing.
func missingObject(guid GUID, stored objectRecord) Object {
	return Object{GUID: guid, Class: stored.class, DN: stored.dn}
}

// release splits a record into what stays and the marked addresses that go now, for all senders or for
// outside senders. An address that becomes internal-only also stays.
func release(stored objectRecord, goes func(ownedRecord) bool) (kept objectRecord, gone []ownedRecord) {
	kept = stored
	kept.addresses = nil
	for _, a := range stored.addresses {
		if !goes(a) {
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

// earlier returns the earlier of two times. It replaces a time in the future, recorded before
// the clock was set back, which has no meaning.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// unmark clears the marks of all passes after the last committed one, because an unfinished pass
// may have read a controller that the daemon no longer follows. It limits the wait of all other
// marks to latest, because a clock that was set back would prolong it. A zero latest means no
// limit.
func unmark(stored objectRecord, lastPass uint64, latest time.Time) objectRecord {
	kept := stored
	kept.addresses = append([]ownedRecord(nil), stored.addresses...)
	for i, a := range kept.addresses {
		if a.mark.pass > lastPass {
			kept.addresses[i] = a.unmarked()
		} else if !latest.IsZero() {
			kept.addresses[i].notBefore = earlier(a.notBefore, latest)
		}
	}
	return kept
}
