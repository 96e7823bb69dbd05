package daemon

import (
	"context"
	"errors"
	"io"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/logging"
)

// Stopped is a backend that answers from the store of a stopped daemon. The states of directories are as of
// now.
type Stopped struct{ backend }

var (
	_ control.Backend = Stopped{}
	_ Reader          = Stopped{}
	_ Reader          = (*control.Client)(nil)
)

// Reader has the requests that both a running and a stopped daemon answer.
type Reader interface {
	Status(context.Context) (control.Status, error)
	Lookup(context.Context, control.LookupQuery) (control.LookupAnswer, error)
	Report(context.Context, control.ReportQuery) (control.Report, error)
	Removals(context.Context, control.RemovalsQuery, func(control.HeldRemoval) error) error
	Journal(context.Context, control.JournalQuery, func(control.JournalRow) error) error
	Export(context.Context, control.ExportQuery, func(control.ExportEvent) error) error
}

// OpenStopped opens the store of a configuration for reading. The daemon must have closed it
// cleanly, and no process may have it open. OpenStopped ignores Log, LockWait and FileRest.
func OpenStopped(ctx context.Context, o Options) (Stopped, error) {
	o.Log = logging.New(io.Discard, "rcpt-milter", LogOptions(o.Config))
	o.FileRest = 0
	d := newDaemon(o)
	at, err := storeConfig(o.Config)
	if err != nil {
		return Stopped{}, err
	}
	at.MinFree, at.ReadOnly = 0, true
	if err := d.assemble(ctx, o.Config, at); err != nil {
		return Stopped{}, errors.Join(err, d.close())
	}
	return Stopped{backend{d, time.Time{}, time.Now}}, nil
}

// Close closes the store.
func (s Stopped) Close() error { return s.close() }

func (s Stopped) Status(ctx context.Context) (control.Status, error) {
	status, err := s.backend.Status(ctx)
	status.Offline, status.StoreVerified = true, control.Time{}
	status.Outcomes, status.DomainDecisions = nil, nil // no daemon has counted them
	return status, err
}

func (s Stopped) Lookup(ctx context.Context, q control.LookupQuery) (control.LookupAnswer, error) {
	answer, err := s.backend.Lookup(ctx, q)
	answer.Offline = true
	return answer, err
}

// The following methods need a running daemon.

func (Stopped) Sync(context.Context, control.SyncQuery, func(control.SyncEvent)) error {
	return control.ErrNotSupported
}

func (Stopped) Approve(context.Context, control.RemovalsQuery, func(control.RemovalsDone)) error {
	return control.ErrNotSupported
}

func (Stopped) Discard(context.Context, control.RemovalsQuery, func(control.RemovalsDone)) error {
	return control.ErrNotSupported
}

func (Stopped) Compare(context.Context, control.CompareQuery, func(control.CompareEvent) error) error {
	return control.ErrNotSupported
}

func (Stopped) Verify(context.Context) (control.Verified, error) {
	return control.Verified{}, control.ErrNotSupported
}

func (Stopped) Reload(context.Context) (control.Reloaded, error) {
	return control.Reloaded{}, control.ErrNotSupported
}
