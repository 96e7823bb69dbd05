package mirror

import (
	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// Examined is what rules make of one object, for a check of a configuration.
type Examined struct {
	Addresses []address.Address   // that it owns, or would own if it stood where objects count
	Class     string              // as in store.Object
	InScope   bool                // it stands in the bases and not in an excluded subtree
	Excluded  bool                // it stands in an excluded subtree of the bases
	HidesUSN  bool                // changes of it cannot be followed
	Unread    []store.UnreadValue // its values that need correction
}

// Examine applies the rules to an object as a pass does. It is a pure function.
func (r Rules) Examine(o directory.Object) Examined {
	everywhere := r
	everywhere.Bases, everywhere.Exclude = nil, nil
	judged := classify(o, everywhere)
	out := Examined{Class: judged.Class, InScope: r.inScope(o.DN), Unread: judged.Unread}
	out.Excluded = !out.InScope && inBases(o.DN, r.Bases)
	out.HidesUSN = o.USN == 0 && (judged.Container || isRecipient(&o, everywhere))
	for _, a := range judged.Addresses {
		out.Addresses = append(out.Addresses, a.Address)
	}
	return out
}
