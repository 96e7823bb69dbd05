package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// keeper is whatever looks after the addresses of one directory.
type keeper interface {
	Name() string
	Status() mirror.Status
	Approve(ctx context.Context, upTo uint64) (store.PassInfo, error)
	Discard(context.Context) (int, error)
}

var (
	_ keeper = (*mirror.Mirror)(nil)
	_ keeper = (*mirror.RetiredDirectory)(nil)
)

// all are the keepers of all directories, in the order of the configuration; those of
// directories that are not in it any more come last.
func (f *follower) all() []keeper {
	var all []keeper
	for _, d := range f.now() {
		all = append(all, d.Mirror)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.retired {
		if !r.Gone() {
			all = append(all, r)
		}
	}
	return all
}

// keepers are those of all directories, or of the one named.
func (f *follower) keepers(name string) ([]keeper, error) {
	all := f.all()
	if name == "" {
		return all, nil
	}
	var names []string
	for _, k := range all {
		if k.Name() == name {
			return []keeper{k}, nil
		}
		names = append(names, k.Name())
	}
	return nil, fmt.Errorf("there is no directory %q; there are: %s", name, strings.Join(names, ", "))
}

func (b backend) Removals(_ context.Context, q control.RemovalsQuery, visit func(control.HeldRemoval) error) error {
	keepers, err := b.follower.keepers(q.Directory)
	if err != nil {
		return err
	}
	for _, k := range keepers {
		if err := b.waiting(k, visit); err != nil {
			return err
		}
	}
	return nil
}

// waiting visits what waits in one directory.
func (b backend) waiting(k keeper, visit func(control.HeldRemoval) error) error {
	now, stored := b.now(), b.store.Directory(k.Name())
	return b.store.Held(k.Name(), func(h store.Held) error {
		row := control.HeldRemoval{Directory: k.Name(), Address: h.Address.String(), GUID: directory.GUID(h.GUID).String(),
			DN: h.DN, Class: h.Class, Pass: h.Pass, Since: control.Time{Time: h.Since}, LastOwner: h.Last,
			BecomesInternalOnly: h.Closes}
		switch {
		case h.NotBefore.After(now):
			row.WaitsFor, row.NotBefore = control.WaitsReplication, control.Time{Time: h.NotBefore}
		case stored.Holds(h.Address.Domain()) != "":
			row.WaitsFor, row.Why = control.WaitsApproval, stored.Holds(h.Address.Domain())
		default:
			row.WaitsFor = control.WaitsPass
		}
		return visit(row)
	})
}

func (b backend) Approve(ctx context.Context, q control.RemovalsQuery, tell func(control.RemovalsDone)) error {
	// What one waits for must not let another approve more than could be seen.
	upTo := map[string]uint64{}
	for _, k := range b.follower.all() {
		upTo[k.Name()] = cmp.Or(q.UpTo, b.store.Directory(k.Name()).Newest().Number)
	}
	return b.settle(q, tell, func(k keeper) (control.RemovalsDone, error) {
		info, err := k.Approve(ctx, upTo[k.Name()])
		done := control.RemovalsDone{Directory: k.Name(), Removed: int64(info.Removed), Pass: info.Number}
		if err != nil {
			return done, err
		}
		err = b.waiting(k, func(h control.HeldRemoval) error {
			if h.WaitsFor == control.WaitsApproval {
				done.Waiting++
			}
			return nil
		})
		return done, err
	})
}

func (b backend) Discard(ctx context.Context, q control.RemovalsQuery, tell func(control.RemovalsDone)) error {
	return b.settle(q, tell, func(k keeper) (control.RemovalsDone, error) {
		objects, err := k.Discard(ctx)
		return control.RemovalsDone{Directory: k.Name(), Kept: int64(objects)}, err
	})
}

// settle does the same in every directory that holds something back. One that fails
// does not keep the others from it.
func (b backend) settle(q control.RemovalsQuery, tell func(control.RemovalsDone), do func(keeper) (control.RemovalsDone, error)) error {
	keepers, err := b.follower.keepers(q.Directory)
	if err != nil {
		return err
	}
	var failed []error
	for _, k := range keepers {
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
		return visit(rowOf(e))
	})
}

func rowOf(e store.Event) control.JournalRow {
	row := control.JournalRow{Change: control.Lost, Address: e.Address.String(), Directory: e.Directory, GUID: directory.GUID(e.GUID).String(),
		DN: e.DN, Pass: e.Pass, DomainController: e.Controller, USN: e.USN, Time: control.Time{Time: e.Time},
		InternalOnly: e.Outside}
	if e.Added {
		row.Change = control.Gained
	}
	return row
}
