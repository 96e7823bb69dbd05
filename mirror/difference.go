package mirror

import (
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// Difference is an address of an object on which index and directory disagree.
type Difference struct {
	Address   address.Address
	GUID      store.GUID
	DN, Class string
	// InIndex and InDirectory report where the object has the address. If both are set, only one of them
	// restricts it to inside senders.
	InIndex, InDirectory bool
	Cause                Cause
	NotBefore            time.Time // for CauseReplication: the earliest time of the removal
}

// Cause is a legitimate reason for a difference. The zero value means that there is none, so either the index
// or the directory is wrong.
type Cause string

const (
	CauseHeld        Cause = "held"        // the removal guard holds the removal
	CauseReplication Cause = "replication" // the domain controller may not have the address yet
	CausePending     Cause = "pending"     // the removal takes effect with the next pass
	CauseChanging    Cause = "changing"    // it changed between the checks
)

// compareObject compares an object as it was read with its record in the store. at is the store's state of the
// directory, which shows the held removals. It is a pure function.
func compareObject(read store.Object, stored store.Stored, at store.Directory, now time.Time) []Difference {
	var all []Difference
	base := Difference{GUID: read.GUID, DN: read.DN, Class: read.Class}
	if len(read.Addresses) == 0 && stored.DN != "" { // its last location
		base.DN, base.Class = stored.DN, stored.Class
	}
	has := map[address.Address]bool{} // addresses that were read; the value is true if internal-only
	for _, a := range read.Addresses {
		if _, seen := has[a.Address]; !seen {
			has[a.Address] = a.InternalOnly
		}
	}
	known := map[address.Address]bool{}
	for _, o := range stored.Addresses {
		if !o.Known {
			continue
		}
		known[o.Address] = true
		internalOnly, read := has[o.Address]
		if read && internalOnly == o.InternalOnly {
			continue
		}
		d := base
		d.Address, d.InIndex, d.InDirectory = o.Address, true, read
		if !read && o.Gone || read && o.BecomesInternalOnly {
			d.Cause, d.NotBefore = causeOf(o, at.Holds(o.Address.Domain()) != "", now)
		}
		all = append(all, d)
	}
	for _, a := range read.Addresses {
		if !known[a.Address] {
			known[a.Address] = true
			d := base
			d.Address, d.InDirectory = a.Address, true
			all = append(all, d)
		}
	}
	return all
}

// causeOf returns why the index still has an address that is marked for removal, or still has it without a
// restriction.
func causeOf(o store.StoredAddress, held bool, now time.Time) (Cause, time.Time) {
	switch {
	case o.NotBefore.After(now):
		return CauseReplication, o.NotBefore
	case held:
		return CauseHeld, time.Time{}
	default:
		return CausePending, time.Time{}
	}
}

// countDistinct returns the number of distinct addresses.
func countDistinct(list []store.Owned) int {
	if len(list) < 2 {
		return len(list)
	}
	seen := make(map[address.Address]bool, len(list))
	for _, a := range list {
		seen[a.Address] = true
	}
	return len(seen)
}
