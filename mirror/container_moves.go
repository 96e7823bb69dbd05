package mirror

import (
	"slices"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// checkMoves looks for moved containers before a page is applied.
func (r *passRun) checkMoves(read []directory.Object, objects []store.Object) error {
	if r.kind == store.Full {
		return r.recordMoves(read, objects)
	}
	return r.checkContainerMoves(objects)
}

// checkContainerMoves ends an incremental pass in which a container crossed the border of the bases or of an
// excluded subtree, because the objects below the container do not show the move.
func (r *passRun) checkContainerMoves(objects []store.Object) error {
	rules := r.m.config.Rules
	if len(rules.scopeBorders()) == 0 {
		return nil
	}
	moved, err := r.pass.MovedContainers(objects)
	if err != nil {
		return storeError{err}
	}
	for _, move := range moved {
		if move.From != "" && crosses(move, rules) {
			r.m.config.Log.Info("objects below a moved container may have entered or left the bases",
				"moved", move.To, "from", move.From)
			return errContainerMoved
		}
	}
	for _, o := range objects {
		isNew := func(m store.Move) bool { return m.From == "" && m.To == o.DN }
		if o.Container && o.Unsettled && touches(o.DN, rules) && !slices.ContainsFunc(moved, isNew) {
			r.m.config.Log.Info("objects below a container may have been read while it was elsewhere", "changed", o.DN)
			return errContainerMoved
		}
	}
	return nil
}

// crosses reports whether a container moved into or out of the scope, or moved together with a border of the
// scope.
func crosses(move store.Move, rules Rules) bool {
	borders := rules.scopeBorders()
	return rules.inScope(move.From) != rules.inScope(move.To) || above(move.From, borders) || above(move.To, borders)
}

// above reports whether a container is the top of one of the subtrees, or above it.
func above(dn string, subtrees []string) bool {
	return slices.ContainsFunc(subtrees, func(subtree string) bool { return inBases(subtree, []string{dn}) })
}

// touches reports whether objects in scope may be below a container.
func touches(dn string, rules Rules) bool {
	return rules.inScope(dn) || above(dn, rules.scopeBorders())
}

// recordMoves records the containers in a page of a full pass whose objects must be read again. These are
// objects that changed since the pass started and have a new DN, and changed containers that are not known to
// be new. recordMoves must run before the page is applied, because it compares with the stored DN.
func (r *passRun) recordMoves(read []directory.Object, objects []store.Object) error {
	rules := r.m.config.Rules
	for i, o := range objects {
		if o.Deleted || !o.Container && !o.Unsettled {
			continue
		}
		name, err := r.pass.StoredName(o.GUID)
		if err != nil {
			return storeError{err}
		}
		moved := name != "" && name != o.DN
		if r.continues && o.Container && moved && len(rules.scopeBorders()) > 0 &&
			crosses(store.Move{From: name, To: o.DN}, rules) {
			r.m.config.Log.Info("objects below a moved container may have entered or left the bases",
				"moved", o.DN, "from", name)
			return errContainerMoved
		}
		if o.Unsettled && (moved || o.Container && r.mayHaveMoved(read[i], name)) {
			r.movedContainers[read[i].GUID] = o.DN
		}
	}
	return nil
}

// mayHaveMoved reports whether a changed container may have moved although its stored DN is equal or missing:
// it may have moved back, or may not have been read yet. Objects below a new container are new themselves, or
// show their own move.
func (r *passRun) mayHaveMoved(o directory.Object, name string) bool {
	isNew := o.Created > r.root.HighestCommittedUSN
	return name == "" && !isNew || name != "" && r.readingChanges
}
