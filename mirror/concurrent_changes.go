package mirror

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
)

// changeTracker tracks the changes that occur while a full pass reads.
type changeTracker struct {
	readUpTo        uint64                    // USN up to which changes have been read
	readAt          time.Time                 // time of that read
	readTook        time.Duration             // duration of that read
	readingChanges  bool                      // such a read is in progress
	betweenPages    bool                      // changes have been read between pages
	atEndOnly       bool                      // the second connection has failed, see changesMode
	movedContainers map[directory.GUID]string // DNs of containers whose objects must be read again
}

// startTracking returns the state at the start of a full pass. A pass that continues from the cursor reads the
// changes since the cursor; any other pass reads the changes since its start.
func (r *passRun) startTracking(before cursor) changeTracker {
	tracker := changeTracker{readUpTo: r.root.HighestCommittedUSN, readAt: r.m.config.Now()}
	tracker.movedContainers = map[directory.GUID]string{}
	if r.continues {
		tracker.readUpTo = before.USN
	}
	return tracker
}

// pageHandler returns a function that applies a page and then reads the changes, if they are due. Additions
// therefore take effect about as early as without the full pass.
func (r *passRun) pageHandler(ctx context.Context) func([]directory.Object) error {
	return func(read []directory.Object) error {
		if err := r.applyPage(read); err != nil {
			return err
		}
		return r.readChangesIfDue(ctx)
	}
}

// changesDue reports whether the changes should be read now: after Poll, or earlier after a notification. It
// limits the share of time spent on that.
func (r *passRun) changesDue() bool {
	age, known := clock.Elapsed(r.readAt, r.m.config.Now())
	if !known {
		return true
	}
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

// readConcurrentChanges reads the changes since the last such read over a connection. They count as unsettled:
// additions take effect at once, and losses are left to the next pass.
func (r *passRun) readConcurrentChanges(
	ctx context.Context, source Source, page func([]directory.Object) error,
) error {
	m, began := r.m, r.m.config.Now()
	root, err := source.Root(ctx)
	if err != nil {
		return err
	}
	if root.InvocationID != r.root.InvocationID || root.HighestCommittedUSN < r.readUpTo {
		return fmt.Errorf("%w: the database of %s was replaced while it was read",
			directory.ErrProtocol, root.DNSHostName)
	}
	r.readingChanges = true
	defer func() { r.readingChanges = false }()
	if err := source.Read(ctx, r.readUpTo, page); err != nil {
		return err
	}
	r.readUpTo, r.readAt = root.HighestCommittedUSN, m.config.Now()
	r.readTook, _ = clock.Elapsed(began, r.readAt)
	m.updateStatus(func(s *Status) { s.HighestUSN = root.HighestCommittedUSN })
	if r.continues && !m.changesHidden && r.before.NoAddressesSince.IsZero() {
		covered := began.Add(-root.Age).Round(0) // wall time, like the times of passes in the store
		m.coveredUntil.Store(&covered)
	}
	return nil
}

// maxMoveRounds limits how often a full pass reads the objects below moved containers again because further
// containers have moved meanwhile.
const maxMoveRounds = 3

// readUntilStable reads the changes up to the end of a full pass. A controller may read objects in the order of
// their DNs. If a container moves past the current position, the objects below it are skipped, or have been
// read under their old DNs, and their uSNChanged does not change. readUntilStable reads these objects again at
// their new location.
func (r *passRun) readUntilStable(ctx context.Context) error {
	for round := 0; ; round++ {
		if err := r.readConcurrentChanges(ctx, r.m.source, r.applyPage); err != nil {
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

// rereadMoved reads the objects below the outermost moved containers.
func (r *passRun) rereadMoved(ctx context.Context) error {
	tops := make([]directory.GUID, 0, len(r.movedContainers))
	names := r.movedContainers
	for guid := range names {
		tops = append(tops, guid)
	}
	slices.SortFunc(tops, func(a, b directory.GUID) int {
		return cmp.Or(len(names[a])-len(names[b]), bytes.Compare(a[:], b[:]))
	})
	r.movedContainers = map[directory.GUID]string{}
	var done []string
	for _, top := range tops {
		if len(done) > 0 && inBases(names[top], done) {
			continue
		}
		done = append(done, names[top])
		r.m.config.Log.Info("reading the objects below a container again", "container", names[top])
		if err := r.m.source.ReadBelow(ctx, top, r.pageHandler(ctx)); err != nil {
			return err
		}
	}
	return checkBases(ctx, r.m.source, r.m.config.Rules.Bases)
}
