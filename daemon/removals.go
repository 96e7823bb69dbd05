package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// directorySyncer keeps the addresses of one directory. A Mirror reads a configured directory. A
// RetiredDirectory removes the addresses of a directory that is no longer configured.
type directorySyncer interface {
	Name() string
	Status() mirror.Status
	Outdated() error
	Approve(ctx context.Context, upTo uint64) (store.PassInfo, error)
	Discard(context.Context) (int, error)
}

var (
	_ directorySyncer = (*mirror.Mirror)(nil)
	_ directorySyncer = (*mirror.RetiredDirectory)(nil)
)

// syncers returns the syncers of all directories in configuration order, followed by retired directories.
func (sm *syncManager) syncers() []directorySyncer {
	var all []directorySyncer
	for _, d := range sm.active() {
		all = append(all, d.Mirror)
	}
	sm.mu.Lock()
	defer sm.mu.Unlock()
	for _, r := range sm.retired {
		if !r.Gone() {
			all = append(all, r)
		}
	}
	return all
}

// syncersNamed returns the syncer of the named directory. An empty name selects all.
func (sm *syncManager) syncersNamed(name string) ([]directorySyncer, error) {
	all := sm.syncers()
	if name == "" {
		return all, nil
	}
	var names []string
	for _, k := range all {
		if k.Name() == name {
			return []directorySyncer{k}, nil
		}
		names = append(names, k.Name())
	}
	return nil, fmt.Errorf("there is no directory %q; the directories are: %s", name, strings.Join(names, ", "))
}

func (b backend) Removals(_ context.Context, q control.RemovalsQuery, visit func(control.HeldRemoval) error) error {
	syncers, err := b.syncs.syncersNamed(q.Directory)
	if err != nil {
		return err
	}
	for _, k := range syncers {
		if err := b.heldIn(k, visit); err != nil {
			return err
		}
	}
	return nil
}

// heldIn visits the held removals of one directory.
func (b backend) heldIn(k directorySyncer, visit func(control.HeldRemoval) error) error {
	now, stored, outdated := b.now(), b.store.Directory(k.Name()), k.Outdated() != nil
	return b.store.HeldRemovals(k.Name(), func(h store.HeldRemoval) error {
		row := control.HeldRemoval{Directory: k.Name(), Address: h.Address.String(), GUID: mirror.GUIDText(h.GUID),
			DN: h.DN, Class: h.Class, Pass: h.Pass, Since: control.Time{Time: h.Since}, LastOwner: h.Last,
			BecomesInternalOnly: h.BecomesInternalOnly}
		switch {
		case h.NotBefore.After(now):
			row.WaitsFor, row.NotBefore = control.WaitsReplication, control.Time{Time: h.NotBefore}
		case h.NotBefore.IsZero() && stored.Holds(h.Address.Domain()) != "" && !outdated:
			row.WaitsFor, row.Why = control.WaitsApproval, stored.Holds(h.Address.Domain())
		default:
			row.WaitsFor = control.WaitsPass
		}
		return visit(row)
	})
}

func (b backend) Approve(ctx context.Context, q control.RemovalsQuery, tell func(control.RemovalsDone)) error {
	// A directory that takes a long time must not make the approval of another directory include removals that
	// the operator has not seen.
	upTo := map[string]uint64{}
	for _, k := range b.syncs.syncers() {
		upTo[k.Name()] = cmp.Or(q.UpTo, b.store.Directory(k.Name()).Newest().Number)
	}
	return b.settleHeld(ctx, q, tell, func(k directorySyncer) (control.RemovalsDone, error) {
		info, err := k.Approve(ctx, upTo[k.Name()])
		done := control.RemovalsDone{Directory: k.Name(), Removed: int64(info.Removed), Pass: info.Number}
		if err != nil {
			return done, err
		}
		err = b.heldIn(k, func(h control.HeldRemoval) error {
			if h.WaitsFor == control.WaitsApproval {
				done.Waiting++
			}
			return nil
		})
		return done, err
	})
}

func (b backend) Discard(ctx context.Context, q control.RemovalsQuery, tell func(control.RemovalsDone)) error {
	return b.settleHeld(ctx, q, tell, func(k directorySyncer) (control.RemovalsDone, error) {
		objects, err := k.Discard(ctx)
		return control.RemovalsDone{Directory: k.Name(), Kept: int64(objects)}, err
	})
}

// settleHeld calls do for every directory with held removals, until ctx ends. After an error in one directory it
// continues with the next.
func (b backend) settleHeld(ctx context.Context, q control.RemovalsQuery, tell func(control.RemovalsDone),
	do func(directorySyncer) (control.RemovalsDone, error)) error {
	syncers, err := b.syncs.syncersNamed(q.Directory)
	if err != nil {
		return err
	}
	var failed []error
	for _, k := range syncers {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failed, err)...)
		}
		if k.Status().HoldReason == "" {
			continue
		}
		done, err := do(k)
		if err != nil {
			failed = append(failed, fmt.Errorf("directory %s: %w", k.Name(), err))
			continue
		}
		tell(done)
	}
	return errors.Join(failed...)
}

func (b backend) Journal(_ context.Context, q control.JournalQuery, visit func(control.JournalRow) error) error {
	return b.store.Journal(store.JournalQuery{Since: q.Since.Time, Pass: q.Pass}, func(e store.Event) error {
		return visit(journalRowOf(e))
	})
}

func journalRowOf(e store.Event) control.JournalRow {
	row := control.JournalRow{Change: control.Lost, Address: e.Address.String(), Directory: e.Directory,
		GUID: mirror.GUIDText(e.GUID),
		DN:   e.DN, Pass: e.Pass, DomainController: e.Controller, USN: e.USN, Time: control.Time{Time: e.Time},
		InternalOnly: e.OutsideOnly}
	if e.Added {
		row.Change = control.Gained
	}
	return row
}
