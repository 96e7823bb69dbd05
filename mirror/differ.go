package mirror

import (
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// Difference is one address of one object about which the index and the directory do
// not agree.
type Difference struct {
	Address   address.Address
	GUID      store.GUID
	DN, Class string
	// InIndex and InDirectory tell who has the address. Where both have it they differ in
	// whether the object takes mail from inside senders only.
	InIndex, InDirectory bool
	Cause                Cause
	NotBefore            time.Time // of CauseReplication: when the removal may take effect
}

// Cause is a reason for which the index may differ from the directory and be right.
// The zero value: there is none, one of them is wrong.
type Cause string

const (
	CauseHeld        Cause = "held"        // the removal guard holds the removal back
	CauseReplication Cause = "replication" // the domain controller may not have heard of the address yet
	CausePending     Cause = "pending"     // the removal takes effect with the next pass
	CauseChanging    Cause = "changing"    // it changed each time that it was looked at
)

// disagree compares what was read of an object with what is stored of it. The
// directory says which removals the guard holds back. It is a pure function.
func disagree(read store.Object, stored store.Stored, at store.Directory, now time.Time) []Difference {
	var all []Difference
	base := Difference{GUID: read.GUID, DN: read.DN, Class: read.Class}
	if len(read.Addresses) == 0 && stored.DN != "" { // where it lived
		base.DN, base.Class = stored.DN, stored.Class
	}
	has := map[address.Address]bool{} // addresses read, and whether restricted
	for _, a := range read.Addresses {
		if _, twice := has[a.Address]; !twice {
			has[a.Address] = a.InternalOnly
		}
	}
	known := map[address.Address]bool{}
	for _, o := range stored.Addresses {
		if !o.Known {
			continue
		}
		known[o.Address] = true
		restricted, read := has[o.Address]
		if read && restricted == o.InternalOnly {
			continue
		}
		d := base
		d.Address, d.InIndex, d.InDirectory = o.Address, true, read
		if !read && o.Gone || read && o.BecomesInternalOnly {
			d.Cause, d.NotBefore = why(o, at.Holds(o.Address.Domain()) != "", now)
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

// why is the reason for which the index still has a marked address, or has it open.
func why(o store.StoredAddress, held bool, now time.Time) (Cause, time.Time) {
	switch {
	case o.NotBefore.After(now):
		return CauseReplication, o.NotBefore
	case held:
		return CauseHeld, time.Time{}
	default:
		return CausePending, time.Time{}
	}
}

// distinct counts addresses, each once.
func distinct(list []store.Owned) int {
	if len(list) < 2 {
		return len(list)
	}
	seen := make(map[address.Address]bool, len(list))
	for _, a := range list {
		seen[a.Address] = true
	}
	return len(seen)
}
