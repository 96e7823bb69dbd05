package mirror

import (
	"bytes"
	"context"
	"slices"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// A controller that pages by position skips objects whose container moves from after the position to before it.
// If the pass sees the move, it reads the objects below the container again. It does not see the move if the
// account cannot read the container, if uSNChanged of the container is hidden, or if the class of the container
// is not read. Before a full pass concludes that an object is gone, it therefore looks for the object by GUID,
// which does not depend on a position.

// readUntilComplete completes a full read. It reads the changes so far, the objects below moved containers, and
// the objects that were overlooked.
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

// readOverlooked reads objects that exist but that the pass has not read, and returns their number. Objects
// created since the pass started do not count.
//
// A pass that continues from the cursor looks for the stored objects, because all others are among the changes
// since the cursor. Any other pass also lists all objects once more.
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

// noteOutOfScope records an object that lost addresses because it was read outside of the scope.
func (r *passRun) noteOutOfScope(o *directory.Object) {
	if !o.Deleted && !r.m.config.Rules.inScope(o.DN) {
		r.outOfScope = append(r.outOfScope, o.GUID)
	}
}

// takeOutOfScope returns the objects recorded by noteOutOfScope and forgets them.
func (r *passRun) takeOutOfScope() []directory.GUID {
	list := r.outOfScope
	r.outOfScope = nil
	return list
}

// rereadOutOfScope reads the objects recorded by noteOutOfScope again. Their container may have been outside of
// the scope only briefly, and if it is hidden, its return is not visible.
func (r *passRun) rereadOutOfScope(ctx context.Context) error {
	return r.m.source.ReadObjects(ctx, distinct(r.takeOutOfScope()), r.applyPage)
}

// distinct sorts a list and removes duplicates.
func distinct(list []directory.GUID) []directory.GUID {
	slices.SortFunc(list, func(a, b directory.GUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}
