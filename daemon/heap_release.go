package daemon

import (
	"context"
	"runtime/debug"
	"time"

	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// heapReleaseDelay is how long after a full pass memory returns to the system. By then a hub has published
// what it read, at least most of it.
const heapReleaseDelay = 2 * time.Minute

// heapRelease returns memory to the system once, some time after the first full pass of the process. That
// pass needs far more memory than the daemon ever after, and the runtime keeps most of it: it returns only
// what exceeds the goal of the next collection, and an idle daemon collects rarely. While a pass runs,
// it would take back at once what was returned.
type heapRelease struct {
	passed  chan struct{} // a full pass has ended; has room for one
	delay   time.Duration
	running func() bool // a pass is running
	free    func()
}

func newHeapRelease(running func() bool) *heapRelease {
	return &heapRelease{passed: make(chan struct{}, 1), delay: heapReleaseDelay, running: running,
		free: debug.FreeOSMemory}
}

// passEnded notes the end of a pass. It never blocks.
func (h *heapRelease) passEnded(r mirror.PassResult) {
	if r.Err != nil || r.Info.Kind != store.Full {
		return
	}
	select {
	case h.passed <- struct{}{}:
	default: // noted already
	}
}

// Run waits for the first full pass, and for the time after it, until ctx ends. It counts the delay from the
// last of several full passes.
func (h *heapRelease) Run(ctx context.Context) error {
	timer := time.NewTimer(h.delay)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.passed:
			timer.Reset(h.delay)
		case <-timer.C:
			if h.running() {
				timer.Reset(h.delay)
				continue
			}
			h.free()
			<-ctx.Done()
			return nil
		}
	}
}

// running reports whether a pass is running.
func (sm *syncManager) running() bool {
	for _, d := range sm.active() {
		if d.Status().Running != nil {
			return true
		}
	}
	return false
}
