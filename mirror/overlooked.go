package mirror

import (
	"bytes"
	"context"
	"slices"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// A controller that pages by position skips objects whose container moves from behind the
// position to in front of it. The pass reads the objects below such a container again, if it
// sees the move. It does not see the move of a container that the account cannot read, that hides
// uSNChanged, or that has a class which is not read. So a full pass believes that an object is
// gone only after it has looked for it by its GUID, which has no position.

// readUntilComplete completes a full read: it reads the changes up to now, the objects below
// moved containers, and the objects that were overlooked.
func (r *passRun) readUntilComplete(ctx context.Context) error {
	for range maxMoveRounds {
		if err := r.readUntilStable(ctx); err != nil {
			return err
		}
		overlooked, err := r.readOverlooked(ctx)
		if err != nil {
			return err
		}
		if overlooked > 0 {
			r.m.config.Log.Info("objects were overlooked because a container moved", "objects", overlooked)
		}
		if (overlooked == 0 || r.continues) && len(r.movedContainers) == 0 {
			return nil
		}
	}
	return errStillMoving
}

// readOverlooked reads the objects that exist and that the pass has not read, and returns their
// number. Objects that are new since the pass began do not count.
//
// A pass that continues from the cursor looks for the stored objects: all others are among the
// changes since. Any other pass also lists all objects once more.
func (r *passRun) readOverlooked(ctx context.Context) (count int, err error) {
	unseen, err := r.pass.Unseen()
	if err != nil {
		return 0, storeError{err}
	}
	look := make([]directory.GUID, len(unseen))
	for i, guid := range unseen {
		look[i] = directory.GUID(guid)
	}
	if !r.continues {
		listed, err := r.listUnseen(ctx)
		if err != nil {
			return 0, err
		}
		look = append(look, listed...)
	}
	look = append(look, r.takeOutOfScope()...)
	apply := r.pageHandler(ctx)
	err = r.m.source.ReadObjects(ctx, distinct(look), func(read []directory.Object) error {
		for _, o := range read {
			if !r.pass.Saw(store.GUID(o.GUID)) && o.USN != 0 && o.USN <= r.root.HighestCommittedUSN {
				count++
			}
		}
		return apply(read)
	})
	return count, err
}

// listUnseen lists the objects that the pass has not read.
func (r *passRun) listUnseen(ctx context.Context) (unseen []directory.GUID, err error) {
	err = r.m.source.List(ctx, func(objects []directory.Object) error {
		for _, o := range objects {
			if !r.pass.Saw(store.GUID(o.GUID)) {
				unseen = append(unseen, o.GUID)
			}
		}
		return r.readChangesIfDue(ctx)
	})
	return unseen, err
}

// noteOutOfScope records an object that lost addresses because it was read outside the scope.
func (r *passRun) noteOutOfScope(o *directory.Object) {
	if !o.Deleted && !r.m.config.Rules.inScope(o.DN) {
		r.outOfScope = append(r.outOfScope, o.GUID)
	}
}

// takeOutOfScope returns the objects of noteOutOfScope and forgets them.
func (r *passRun) takeOutOfScope() []directory.GUID {
	list := r.outOfScope
	r.outOfScope = nil
	return list
}

// rereadOutOfScope reads the objects of noteOutOfScope again. Their container may have been
// outside the scope for a moment only, and if it is hidden, its return does not show.
func (r *passRun) rereadOutOfScope(ctx context.Context) error {
	return r.m.source.ReadObjects(ctx, distinct(r.takeOutOfScope()), r.applyPage)
}

// distinct sorts a list and drops duplicates.
func distinct(list []directory.GUID) []directory.GUID {
	slices.SortFunc(list, func(a, b directory.GUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}
