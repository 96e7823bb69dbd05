package store

import (
	"fmt"
	"runtime/debug"
)

// Badger reads its files through memory maps. A block that the disk cannot return, or that a
// truncation removed, raises SIGBUS, which ends the process unless the goroutine that reads asks
// for a panic instead.

// catchFaults turns a panic of Badger, and a fault in its memory maps, into an error that records
// damage. Damaged files also make Badger index out of range. Use: defer s.catchFaults(&err)().
//
// It records no damage while a commit runs or after one has failed. Badger has no memory table if it could not
// create the next one, and dereferences nil, although the files are sound. The store is opened again before the
// next write, which verifies them.
func (s *Store) catchFaults(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		p := recover()
		switch {
		case p != nil && s.unsettled.Load():
			*err = fmt.Errorf("store %s: cannot read while a commit is in doubt: %v", s.config.Dir, p)
		case p != nil:
			*err = s.markDamaged(fmt.Errorf("cannot read: %v", p))
		}
	}
}
