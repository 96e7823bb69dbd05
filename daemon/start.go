package daemon

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// On a slow disk, opening a large store takes longer than TimeoutStartSec of the unit. While there is progress,
// the daemon asks systemd for more time (EXTEND_TIMEOUT_USEC of sd_notify(3)).
const (
	extendEvery = 10 * time.Second
	extendBy    = time.Minute
)

// start reports progress to systemd while the store is opened.
type start struct {
	notify  func(string)
	steps   atomic.Int64 // number of progress calls
	done    chan struct{}
	running sync.WaitGroup
}

// beginStart starts reporting, until end is called.
func beginStart(notify func(string)) *start {
	s := &start{notify: notify, done: make(chan struct{})}
	ticker := time.NewTicker(extendEvery)
	s.running.Go(func() {
		defer ticker.Stop()
		s.report(ticker.C)
	})
	return s
}

// progress records progress. It is safe for concurrent use.
func (s *start) progress() { s.steps.Add(1) }

// report asks for more time at each tick, provided there was progress since the last tick.
func (s *start) report(ticks <-chan time.Time) {
	seen := int64(0)
	for {
		select {
		case <-s.done:
			return
		case <-ticks:
		}
		if now := s.steps.Load(); now != seen {
			seen = now
			s.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=opening and verifying the store",
				extendBy.Microseconds()))
		}
	}
}

func (s *start) end() {
	close(s.done)
	s.running.Wait()
}
