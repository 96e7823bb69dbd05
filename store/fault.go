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
func (s *Store) catchFaults(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = s.markDamaged(fmt.Errorf("cannot read: %v", p))
		}
	}
}
