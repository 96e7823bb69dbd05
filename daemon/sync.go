package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/mirror"
)

// progressInterval is the interval between progress reports to a client that waits for a pass.
const progressInterval = 250 * time.Millisecond

// Sync requests a pass of every directory. If q.Wait is set, it waits until all passes have ended.
func (sm *syncManager) Sync(ctx context.Context, q control.SyncQuery, progress func(control.SyncEvent)) error {
	var results []<-chan mirror.PassResult
	directories := sm.active()
	for _, d := range directories {
		results = append(results, d.Sync(q.Full))
	}
	if !q.Wait {
		return nil
	}
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	var failed []error
	for i, d := range directories {
		result, err := waitFor(ctx, results[i], ticker.C, func() { sm.reportRunning(progress) })
		if err != nil {
			return err
		}
		event := control.SyncEvent{Directory: d.Name(), Kind: result.Info.Kind.String(), Seen: int64(result.Info.Seen)}
		if result.Err != nil {
			event.Error = result.Err.Error()
			failed = append(failed, fmt.Errorf("directory %s: %w", d.Name(), result.Err))
		} else {
			event.Pass = passOf(result.Info)
		}
		progress(event)
	}
	return errors.Join(failed...)
}

// reportRunning reports the progress of the running passes.
func (sm *syncManager) reportRunning(progress func(control.SyncEvent)) {
	for _, d := range sm.Directories() {
		if d.Running != nil {
			progress(*d.Running)
		}
	}
}

// waitFor receives a value from c. Until then, it calls meanwhile at each tick.
func waitFor[T any](ctx context.Context, c <-chan T, ticks <-chan time.Time, meanwhile func()) (T, error) {
	for {
		select {
		case v := <-c:
			return v, nil
		case <-ticks:
			meanwhile()
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
}
