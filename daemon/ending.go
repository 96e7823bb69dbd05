package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// endLimit limits the time that the daemon takes to end. It exceeds drainTimeout plus the time that a slow disk
// needs, and is below TimeoutStopSec of the unit. Tests change it.
var endLimit = 25 * time.Second

// ending limits the end of the daemon, and tracks the parts that have not ended yet. A store whose directory is
// gone, or whose disk hangs, could otherwise delay the end forever.
type ending struct {
	began chan struct{} // closed when the daemon starts to end
	begin func()        // closes began; may be called repeatedly

	mu      sync.Mutex
	running map[string]struct{} // parts that have started and not ended
}

func newEnding() *ending {
	began := make(chan struct{})
	return &ending{began: began, begin: sync.OnceFunc(func() { close(began) }), running: map[string]struct{}{}}
}

// pause waits for a time. It returns false if ctx ends, or the daemon begins to end.
func (e *ending) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-e.began:
	}
	return false
}

// enter records that a part has begun. The function that it returns records its end.
func (e *ending) enter(part string) (leave func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[part] = struct{}{}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.running, part)
	}
}

// wait returns the error of the daemon. After endLimit, it returns an error that lists the parts that have not
// ended. The process must then exit. The store is in the same condition as after a kill, from which it
// recovers.
func (e *ending) wait(ended <-chan error, log *slog.Logger) error {
	select {
	case err := <-ended:
		return err
	case <-e.began:
	}
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-limit.C:
	}
	e.mu.Lock()
	parts := strings.Join(slices.Sorted(maps.Keys(e.running)), ", ")
	e.mu.Unlock()
	log.Error("gave up waiting at the end; the store was not closed", "after", endLimit, "waiting_for", parts)
	return fmt.Errorf("gave up after %s waiting for: %s; the store was not closed, and the next start recovers it: "+
		"check the disk of store.dir", endLimit, parts)
}
