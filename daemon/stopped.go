package daemon

import (
	"context"
	"errors"
	"io"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/logging"
)

// Stopped is the store that a daemon left behind, as a backend. It answers with the state that
// the index has by now.
type Stopped struct{ backend }

var (
	_ control.Backend = Stopped{}
	_ Reader          = Stopped{}
	_ Reader          = (*control.Client)(nil)
)

// Reader is what a daemon and the store that it left behind both answer.
type Reader interface {
	Status(context.Context) (control.Status, error)
	Lookup(context.Context, control.LookupQuery) (control.LookupAnswer, error)
	Report(context.Context, control.ReportQuery) (control.Report, error)
	Removals(context.Context, control.RemovalsQuery, func(control.HeldRemoval) error) error
	Journal(context.Context, control.JournalQuery, func(control.JournalRow) error) error
	Export(context.Context, control.ExportQuery, func(control.ExportEvent) error) error
}

// OpenStopped opens the store of a configuration for reading. The store must have been closed
// in good order, and no process may have it open. Of the options it uses all but Log and
// LockWait.
func OpenStopped(ctx context.Context, o Options) (Stopped, error) {
	o.Log = logging.New(io.Discard, "rcpt-milter", LogOptions(o.Config))
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

// Close releases the store.
func (s Stopped) Close() error { return s.close() }

func (s Stopped) Status(ctx context.Context) (control.Status, error) {
	status, err := s.backend.Status(ctx)
	status.Offline, status.StoreVerified = true, control.Time{}
	return status, err
}

func (s Stopped) Lookup(ctx context.Context, q control.LookupQuery) (control.LookupAnswer, error) {
	answer, err := s.backend.Lookup(ctx, q)
	answer.Offline = true
	return answer, err
}

// What changes something, or reads a directory, takes a daemon.

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
