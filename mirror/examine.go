package mirror

import (
	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// Examined is the result of applying the rules to one object, for the check of a configuration.
type Examined struct {
	Addresses []address.Address   // addresses that it owns, or would own if it were in scope
	Class     string              // as in store.Object
	InScope   bool                // it is in the bases and in no excluded subtree
	Excluded  bool                // it is in the bases, but in an excluded subtree
	HidesUSN  bool                // incremental passes cannot see its changes
	Unread    []store.UnreadValue // values that need correction
}

// Examine applies the rules to an object as a pass does. It is a pure function.
func (r Rules) Examine(o directory.Object) Examined {
	all := r
	all.Bases, all.Exclude = nil, nil
	object := classify(o, all)
	out := Examined{Class: object.Class, InScope: r.inScope(o.DN), Unread: object.Unread}
	out.Excluded = !out.InScope && inBases(o.DN, r.Bases)
	out.HidesUSN = o.USN == 0 && (object.Container || isRecipient(&o, all))
	for _, a := range object.Addresses {
		out.Addresses = append(out.Addresses, a.Address)
	}
	return out
}
