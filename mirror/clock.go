package mirror

import (
	"time"

	"rcpt-milter/internal/clock"
	"rcpt-milter/store"
)

// isOver reports whether a pause after a time has elapsed. If the elapsed time is unknown, it returns true.
func isOver(at, now time.Time, pause time.Duration) bool {
	age, known := clock.Elapsed(at, now)
	return !known || age >= pause
}

// localClock describes the local clock in comparison with that of a controller. All times in the store are local. If
// the difference between the two clocks has changed, one of them was set, so times in the store do not compare with
// the present. The zero value means unknown.
type localClock struct {
	Known bool          `json:"known"`
	Ahead time.Duration `json:"ahead"` // how far the controller's clock was ahead when the store was last adapted
	// At is when the clock was set, by the new time, and Jump how far ahead. The window of the guard reaches back
	// further by that. Zero means not.
	At   time.Time     `json:"at,omitzero"`
	Jump time.Duration `json:"jump,omitempty"`
}

// isSet reports whether one of the clocks was set between c and now.
func (c localClock) isSet(now localClock) bool {
	return c.Known && now.Known && (now.Ahead-c.Ahead).Abs() > clockSkew
}

// next returns the clock after a pass that saw now.
func (c localClock) next(now localClock) localClock {
	if !c.Known {
		return now
	}
	return c
}

// set returns the clock after one of the clocks was set. elapsed is the local time since the last good pass: a local
// clock cannot have jumped ahead by more. at is the present time.
func (c localClock) set(now localClock, at time.Time, elapsed, window time.Duration) localClock {
	jump := min(c.Ahead-now.Ahead, elapsed) + c.jump(at, window)
	if jump > 0 {
		now.At, now.Jump = at.UTC(), jump
	}
	return now
}

// jump returns by how much a window that ends now must reach back further.
func (c localClock) jump(now time.Time, window time.Duration) time.Duration {
	if c.Jump == 0 || clock.Distance(c.At, now) >= window {
		return 0
	}
	return c.Jump
}

// compareClocks notes the difference between the clock of the controller and the local one, right after the rootDSE
// was read.
func (r *passRun) compareClocks() {
	r.clock = localClock{Known: !r.root.Now.IsZero()}
	if r.clock.Known {
		r.clock.Ahead = r.root.Now.Sub(r.m.config.Now())
	}
}

// clockSet returns the cursor with the present clock if a clock was set since it was stored, otherwise nil.
func (r *passRun) clockSet(stored store.Directory) func(cursor []byte) []byte {
	return func(encoded []byte) []byte {
		at := decodeCursor(encoded)
		if !at.Clock.isSet(r.clock) {
			return nil
		}
		at.Clock = at.Clock.set(r.clock, r.started, r.started.Sub(stored.LastGood()), r.m.config.Guard.Window)
		next, err := at.encode()
		if err != nil { // never: a cursor was decoded
			return nil
		}
		return next
	}
}
