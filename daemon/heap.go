package daemon

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much the heap may grow between two collections, in percent. Most of the heap
// of the daemon has no pointers, so collecting it twice as often as by default costs little: in a
// first full pass, 5 percent of the processor time for 20 percent of the peak memory.
const gcPercent = 50

// limitHeap sets gcPercent unless the environment has a value for GOGC.
func limitHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
