package mirror

import (
	"slices"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// checkMoves looks for containers that moved before a page is applied.
func (r *reading) checkMoves(read []directory.Object, objects []store.Object) error {
	if r.kind == store.Full {
		return r.noteMoves(read, objects)
	}
	return r.atRest(objects)
}

// atRest ends an incremental pass that saw a container cross the border of the bases,
// since what is below it does not show that it moved.
func (r *reading) atRest(objects []store.Object) error {
	bases := r.m.config.Rules.Bases
	if len(bases) == 0 {
		return nil
	}
	moved, err := r.pass.MovedContainers(objects)
	if err != nil {
		return storeError{err}
	}
	for _, move := range moved {
		if move.From != "" && crosses(move, bases) {
			r.m.config.Log.Info("what is below it may have entered or left the bases", "moved", move.To, "from", move.From)
			return errMoved
		}
	}
	for _, o := range objects {
		isNew := func(m store.Move) bool { return m.From == "" && m.To == o.DN }
		if o.Container && o.Unsettled && touches(o.DN, bases) && !slices.ContainsFunc(moved, isNew) {
			r.m.config.Log.Info("what is below it may have been read while it was elsewhere", "changed", o.DN)
			return errMoved
		}
	}
	return nil
}

// crosses reports whether a container went into the bases or out of them, or took one of
// them along.
func crosses(move store.Move, bases []string) bool {
	return inBases(move.From, bases) != inBases(move.To, bases) || above(move.From, bases) || above(move.To, bases)
}

// above reports whether a container is one of the bases or has one below it.
func above(dn string, bases []string) bool {
	return slices.ContainsFunc(bases, func(base string) bool { return inBases(base, []string{dn}) })
}

// touches reports whether something in the bases is below a container.
func touches(dn string, bases []string) bool { return inBases(dn, bases) || above(dn, bases) }
