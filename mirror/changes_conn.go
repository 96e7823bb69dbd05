package mirror

import (
	"context"
	"errors"
	"fmt"

	"rcpt-milter/directory"
)

// changesMode is how a full pass reads changes between the pages of another read.
//
// Active Directory keeps the positions of ten paged searches per connection (MaxResultSetsPerConn). A server
// that keeps only one, or keeps it only briefly, loses the position of the full read each time changes are
// read. The pass is then repeated in the next mode.
type changesMode int

const (
	changesOnSameConn   changesMode = iota // on the connection of the pass
	changesOnSecondConn                    // on a connection of its own
	changesAtEnd                           // only after the last page
)

func (c changesMode) String() string {
	return [...]string{"on the same connection", "on a second connection", "at the end of a full pass"}[c]
}

// lostByChanges reports whether a pass failed because changes were read between its pages. If so, it selects
// the next mode, which stays in effect as long as the mirror exists.
func (r *passRun) lostByChanges(err error) bool {
	m := r.m
	if !errors.Is(err, directory.ErrLostCookie) || !r.betweenPages || m.changesMode == changesAtEnd {
		return false
	}
	m.changesMode++
	m.config.Log.Warn("the controller loses its place in the full read when changes are read between the pages",
		"error", err, "now", "changes are read "+m.changesMode.String())
	return true
}

// readChangesIfDue reads the changes between two pages of another read, if they are due.
func (r *passRun) readChangesIfDue(ctx context.Context) error {
	mode := r.m.changesMode
	if mode == changesAtEnd || r.atEndOnly || !r.changesDue() {
		return nil
	}
	r.betweenPages = true
	if mode == changesOnSameConn {
		return r.readConcurrentChanges(ctx, r.m.source, r.applyPage)
	}
	return r.readChangesBeside(ctx)
}

// readChangesBeside reads the changes over the second connection. If that connection fails, the pass continues
// without it.
func (r *passRun) readChangesBeside(ctx context.Context) error {
	var failed error // error of the pass itself
	err := r.openSecond(ctx)
	if err == nil {
		err = r.readConcurrentChanges(ctx, r.second, func(read []directory.Object) error {
			failed = r.applyPage(read)
			return failed
		})
	}
	if err == nil || failed != nil || ctx.Err() != nil {
		return err
	}
	r.m.config.Log.Warn("cannot read changes over a second connection, so they wait for the end of the full pass",
		"error", err)
	r.atEndOnly = true
	r.closeSecond()
	return nil
}

// openSecond ensures that there is a second connection. It must lead to the same database.
func (r *passRun) openSecond(ctx context.Context) error {
	if r.second != nil {
		return nil
	}
	source, err := r.m.openSecondary(ctx, r.m.current())
	if err != nil {
		return err
	}
	r.second = source
	root, err := source.Root(ctx)
	if err == nil && root.InvocationID != r.root.InvocationID {
		err = fmt.Errorf("%w: it leads to another controller, %s", directory.ErrProtocol, root.DNSHostName)
	}
	return err
}

func (r *passRun) closeSecond() {
	if r.second != nil {
		_ = r.second.Close() // errors of an unused connection do not matter
		r.second = nil
	}
}
