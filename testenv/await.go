package testenv

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Await asks done until it says true, and returns nil. It asks at once and then
// every interval. An error of done ends it. When the context ends first, the error
// wraps the context's.
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
			return fmt.Errorf("gave up waiting: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// errNotYet marks a condition that did not hold when it was last asked.
var errNotYet = errors.New("not yet")

// AwaitNil asks check until it returns nil. When the context ends first, the error
// is the last one that check returned, which says what was still missing.
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
