package testenv

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Await calls done at once and then at every interval until it returns true. An error of done
// ends it. If the context ends first, the error wraps the context's.
func Await(ctx context.Context, interval time.Duration, done func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		ok, err := done(ctx)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait ended: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// errNotYet marks a condition that did not hold at the last call.
var errNotYet = errors.New("not yet")

// AwaitNil calls check until it returns nil. If the context ends first, the error wraps the last
// error of check, which shows what was still missing.
func AwaitNil(ctx context.Context, interval time.Duration, check func(context.Context) error) error {
	last := errNotYet
	err := Await(ctx, interval, func(ctx context.Context) (bool, error) {
		err := check(ctx)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w (last: %w)", err, last)
	}
	return nil
}
