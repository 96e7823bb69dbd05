package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/logging"
	"rcpt-milter/internal/text"
)

// offline is the store that a daemon left behind, as a backend: what asks for no daemon
// is answered from it, with the state that it has by now.
type offline struct{ backend }

var (
	_ control.Backend = offline{}
	_ reader          = offline{}
	_ reader          = (*control.Client)(nil)
)

// openOffline opens the store for reading. It takes one that was closed in good order,
// and that nobody has open.
func openOffline(ctx context.Context, path string, c *config.Config) (offline, error) {
	d := newDaemon(path, c, logging.New(io.Discard, "rcpt-milter", logOptions(c)))
	at, err := storeConfig(c)
	if err != nil {
		return offline{}, err
	}
	at.MinFree, at.ReadOnly = 0, true
	if err := d.assemble(ctx, c, at); err != nil {
		return offline{}, errors.Join(err, d.close())
	}
	return offline{backend{d, time.Time{}, time.Now}}, nil
}

func (o offline) Status(ctx context.Context) (control.Status, error) {
	s, err := o.backend.Status(ctx)
	s.Offline, s.StoreVerified = true, control.Time{}
	return s, err
}

func (o offline) Lookup(ctx context.Context, q control.LookupQuery) (control.LookupAnswer, error) {
	answer, err := o.backend.Lookup(ctx, q)
	answer.Offline = true
	return answer, err
}

// What changes something, or reads a directory, takes a daemon.

func (offline) Sync(context.Context, control.SyncQuery, func(control.SyncEvent)) error {
	return control.ErrNotSupported
}

func (offline) Approve(context.Context, control.RemovalsQuery, func(control.RemovalsDone)) error {
	return control.ErrNotSupported
}

func (offline) Discard(context.Context, control.RemovalsQuery, func(control.RemovalsDone)) error {
	return control.ErrNotSupported
}

func (offline) Compare(context.Context, control.CompareQuery, func(control.CompareEvent) error) error {
	return control.ErrNotSupported
}

func (offline) Verify(context.Context) (control.Verified, error) {
	return control.Verified{}, control.ErrNotSupported
}

func (offline) Reload(context.Context) (control.Reloaded, error) {
	return control.Reloaded{}, control.ErrNotSupported
}

// reader is what can be asked of a daemon or of the store that it left.
type reader interface {
	Status(context.Context) (control.Status, error)
	Lookup(context.Context, control.LookupQuery) (control.LookupAnswer, error)
	Report(context.Context, control.ReportQuery) (control.Report, error)
	Removals(context.Context, control.RemovalsQuery, func(control.HeldRemoval) error) error
	Journal(context.Context, control.JournalQuery, func(control.JournalRow) error) error
	Export(context.Context, control.ExportQuery, func(control.ExportEvent) error) error
}

// ask has the daemon answer, or the store that it left where none runs.
func (a *app) ask(ctx context.Context, do func(reader) error) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if err = do(client); !errors.Is(err, control.ErrNotReachable) {
		return err
	}
	c, bad := a.load()
	if bad != nil {
		return bad
	}
	left, failed := openOffline(ctx, a.configPath, c)
	if failed != nil {
		return errors.Join(err, fmt.Errorf("what it left cannot be read either: %w", failed))
	}
	defer left.close()
	fmt.Fprintf(a.stderr, "rcpt-milter: %s\nrcpt-milter: this is what its store says, as it was left\n", text.Printable(err.Error()))
	return do(left)
}
