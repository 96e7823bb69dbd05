package daemon

import (
	"context"
	"errors"
	"fmt"

	"rcpt-milter/config"
	"rcpt-milter/internal/text"
	"rcpt-milter/store"
)

// Level is what a finding means for the operator.
type Level int

const (
	Good    Level = iota // works
	Warning              // works today and may not tomorrow
	Problem              // does not work
)

// Finding is one result of a check.
type Finding struct {
	Level Level
	Text  string // the fact, then the remedy
	Err   error  // the cause of a problem, with the same text; otherwise nil
}

// findings passes each result of a check on as soon as it is known: a check can take minutes.
type findings struct {
	visit    func(Finding)
	problems int
}

func (f *findings) good(format string, args ...any) {
	f.visit(Finding{Level: Good, Text: fmt.Sprintf(format, args...)})
}

func (f *findings) warning(format string, args ...any) {
	f.visit(Finding{Level: Warning, Text: fmt.Sprintf(format, args...)})
}

func (f *findings) problem(err error) {
	f.problems++
	f.visit(Finding{Level: Problem, Text: err.Error(), Err: err})
}

// ErrStoreInUse means that a daemon has the store open.
var ErrStoreInUse = store.ErrLocked

// CheckStore opens the store of a configuration, which verifies its files, and compares
// addresses, objects and digest with the totals. It returns ErrStoreInUse, and finds nothing,
// when a daemon has the store open: only that daemon can check it.
func CheckStore(ctx context.Context, c *config.Config, visit func(Finding)) error {
	f := &findings{visit: visit}
	s, err := openStored(ctx, c)
	switch {
	case errors.Is(err, store.ErrMissing):
		f.good("store %s: none yet, the first start makes it", c.Store.Dir)
		return nil
	case errors.Is(err, store.ErrLocked):
		return err
	case err != nil:
		f.problem(err)
		return nil
	}
	defer s.Close()
	if err := s.Recount(); err != nil {
		f.problem(err)
		return nil
	}
	f.checkPopulated(s, c)
	t := s.Totals()
	f.good("store %s: %s of %s, digest %s", c.Store.Dir, text.Count(t.Addresses, "address", "addresses"),
		text.Count(t.Objects, "object", "objects"), t.Digest)
	return nil
}
