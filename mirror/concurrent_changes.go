package mirror

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// meanwhile is what a full pass knows of the changes that happen while it reads.
type changeTracker struct {
	readUpTo        uint64                    // USN up to which changes were read
	readAt          time.Time                 // when they were
	readTook        time.Duration             // how long that took
	readingChanges  bool                      // they are being read
	movedContainers map[directory.GUID]string // objects below which all must be read again, and their names
}

// begin is the state at the beginning of a full pass. One that continues reads the changes
// since the cursor, any other those since it began.
func (r *passRun) startTracking(before cursor) changeTracker {
	w := changeTracker{readUpTo: r.root.HighestCommittedUSN, readAt: r.m.config.Now(), movedContainers: map[directory.GUID]string{}}
	if r.continues {
		w.readUpTo = before.USN
	}
	return w
}

// pages judges and applies a page, and reads what has changed meanwhile if it is time for
// that: an addition takes effect about as soon as it would without the full pass.
func (r *passRun) pageHandler(ctx context.Context) func([]directory.Object) error {
	return func(read []directory.Object) error {
		if err := r.applyPage(read); err != nil || !r.changesDue() {
			return err
		}
		return r.readConcurrentChanges(ctx)
	}
}

// late reports whether it is time to read what has changed: after poll, or when the
// controller says that something did, but not most of the time.
func (r *passRun) changesDue() bool {
	age := r.m.config.Now().Sub(r.readAt).Abs()
	if age < r.readTook {
		return false
	}
	if age >= r.m.config.Poll {
		return true
	}
	if age < r.m.debounce {
		return false
	}
	select {
	case <-r.m.changed:
		return true
	default:
		return false
	}
}

// update reads what has changed since it was last read, between two pages of the full read
// on the same connection. All of that counts as unsettled: additions are in effect at
// once, and losses are left to the next pass.
func (r *passRun) readConcurrentChanges(ctx context.Context) error {
	m, began := r.m, r.m.config.Now()
	root, err := m.source.Root(ctx)
	if err != nil {
		return err
	}
	if root.InvocationID != r.root.InvocationID || root.HighestCommittedUSN < r.readUpTo {
		return fmt.Errorf("%w: the database of %s was exchanged while it was read", directory.ErrProtocol, root.DNSHostName)
	}
	r.readingChanges = true
	defer func() { r.readingChanges = false }()
	if err := m.source.Read(ctx, r.readUpTo, r.applyPage); err != nil {
		return err
	}
	r.readUpTo, r.readAt, r.readTook = root.HighestCommittedUSN, m.config.Now(), m.config.Now().Sub(began).Abs()
	m.updateStatus(func(s *Status) { s.HighestUSN = root.HighestCommittedUSN })
	if r.continues {
		m.coveredUntil.Store(&began)
	}
	return nil
}

// maxMoves is how often a full pass reads again what is below containers that moved
// meanwhile, because others moved while it did.
const maxMoveRounds = 3

// settle reads what has changed to the end of a full pass. A controller may go through its
// objects in an order in which their names count. If a container moves from one side of its
// position to the other, the objects below it are not read, or were read under another
// name, and their uSNChanged does not move. They are read again where they are.
func (r *passRun) readUntilStable(ctx context.Context) error {
	for round := 0; ; round++ {
		if err := r.readConcurrentChanges(ctx); err != nil {
			return err
		}
		if len(r.movedContainers) == 0 {
			return nil
		}
		if round == maxMoveRounds {
			return errStillMoving
		}
		if err := r.rereadMoved(ctx); err != nil {
			return err
		}
	}
}

// again reads what is below restless objects, the outermost of them.
func (r *passRun) rereadMoved(ctx context.Context) error {
	tops := make([]directory.GUID, 0, len(r.movedContainers))
	names := r.movedContainers
	for guid := range names {
		tops = append(tops, guid)
	}
	slices.SortFunc(tops, func(a, b directory.GUID) int { return len(names[a]) - len(names[b]) })
	r.movedContainers = map[directory.GUID]string{}
	var done []string
	for _, top := range tops {
		if len(done) > 0 && inBases(names[top], done) {
			continue
		}
		done = append(done, names[top])
		r.m.config.Log.Info("what is below it may have moved, and is read again", "container", names[top])
		if err := r.m.source.ReadBelow(ctx, top, r.pageHandler(ctx)); err != nil {
			return err
		}
	}
	return checkBases(ctx, r.m.source, r.m.config.Rules.Bases)
}

// noteMoves notes the objects of a page of a full pass below which all must be read again:
// those that have changed since it began and have another name than before, and containers
// that have, and are not known to be new. It runs before the page is applied, because the
// name before is the one that is stored, by this pass or an earlier one.
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
			r.m.config.Log.Info("what is below it may have entered or left the bases", "moved", o.DN, "from", name)
			return errContainerMoved
		}
		if o.Unsettled && (moved || o.Container && r.mayHaveMoved(read[i], name)) {
			r.movedContainers[read[i].GUID] = o.DN
		}
	}
	return nil
}

// restlessAs reports whether a container that has changed, and is stored under its name or
// not at all, may have moved all the same: it may have come back, or never have been read.
// What is below a new one is new itself, or has moved there by itself.
func (r *passRun) mayHaveMoved(o directory.Object, name string) bool {
	isNew := o.Created > r.root.HighestCommittedUSN
	return name == "" && !isNew || name != "" && r.readingChanges
}
