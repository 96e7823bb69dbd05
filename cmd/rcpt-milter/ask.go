package main

import (
	"context"
	"errors"
	"fmt"

	"rcpt-milter/control"
	"rcpt-milter/daemon"
	"rcpt-milter/internal/text"
)

// reader answers commands: a daemon, or the store that it left behind.
type reader = daemon.Reader

// ask calls do with the daemon. If no daemon runs, it says so, and calls do with the store that
// the daemon left behind.
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
	left, failed := daemon.OpenStopped(ctx, daemon.Options{ConfigPath: a.configPath, Config: c,
		Version: programVersion()})
	if failed != nil {
		return errors.Join(err, fmt.Errorf("cannot read its store either: %w", failed))
	}
	defer left.Close()
	fmt.Fprintf(a.stderr, "rcpt-milter: %s\nrcpt-milter: answering from its store\n", text.Printable(err.Error()))
	return do(left)
}
