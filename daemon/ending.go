package daemon

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// endLimit is how long the daemon may take to end. It is above the time for open sessions and a
// slow disk, and below TimeoutStopSec of the unit. Tests change it.
var endLimit = 25 * time.Second

// ending bounds the end of the daemon, and knows what has not ended yet. A store whose directory
// is gone, or whose disk hangs, can delay the end for ever.
type ending struct {
	began chan struct{} // closed when the daemon begins to end
	begin func()        // closes it; may be called several times

	mu      sync.Mutex
	running map[string]struct{} // the parts that have begun and not ended
}

func newEnding() *ending {
	began := make(chan struct{})
	return &ending{began: began, begin: sync.OnceFunc(func() { close(began) }), running: map[string]struct{}{}}
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

// wait returns the error of the daemon, or after endLimit an error that names the parts that do
// not end. The process must then exit: the store is as after a kill, from which it recovers.
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
