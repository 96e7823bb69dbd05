package mirror

import (
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// Difference is an address of an object on which the index and the directory disagree.
type Difference struct {
	Address   address.Address
	GUID      store.GUID
	DN, Class string
	// InIndex and InDirectory report which of them has the address. If both have it, they
	// differ in whether the object accepts inside senders only.
	InIndex, InDirectory bool
	Cause                Cause
	NotBefore            time.Time // for CauseReplication: the earliest time of the removal
}

// Cause is a reason for which the index may rightly differ from the directory. The zero
// value means that there is none, so one of them is wrong.
type Cause string

const (
	CauseHeld        Cause = "held"        // the removal guard holds the removal
	CauseReplication Cause = "replication" // the domain controller may not have the address yet
	CausePending     Cause = "pending"     // the removal takes effect with the next pass
	CauseChanging    Cause = "changing"    // it changed between all checks
)

// compareObject compares an object as it was read with its record in the store. The store's
// state of the directory shows which removals are held. It is a pure function.
func compareObject(read store.Object, stored store.Stored, at store.Directory, now time.Time) []Difference {
	var all []Difference
	base := Difference{GUID: read.GUID, DN: read.DN, Class: read.Class}
	if len(read.Addresses) == 0 && stored.DN != "" { // where it was
		base.DN, base.Class = stored.DN, stored.Class
	}
	has := map[address.Address]bool{} // addresses that were read; true: internal-only
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

// causeOf returns why the index still has an address that is marked for removal, or has it
// open.
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

// countDistinct returns the number of different addresses.
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
