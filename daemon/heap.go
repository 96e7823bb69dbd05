package daemon

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// heapRoom is how much the heap may grow between two garbage collections. Most of the daemon's heap has no
// pointers: memory tables of the store, its buffers, the rows of the census. So a collection costs about the
// same whatever the size of the heap. A part of the heap, as GOGC sets it, wastes memory when the heap is large,
// and processor time when it is small.
const heapRoom = 32 << 20

// The growth stays within these limits, in percent. The lower one bounds the processor time for a large heap that
// has many pointers.
const (
	minGCPercent = 15
	maxGCPercent = 100
)

// heapLimit sets the growth of the heap after each collection.
type heapLimit struct {
	percent atomic.Int64
	stopped atomic.Bool
}

// limitHeap keeps the growth of the heap at heapRoom, unless the environment sets GOGC. It then returns nil.
func limitHeap() *heapLimit {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	h := &heapLimit{}
	h.afterCollection()
	return h
}

// afterCollection sets the growth for the heap that the last collection left, and runs again after the next one: the
// runtime then runs the cleanup of what nothing refers to.
func (h *heapLimit) afterCollection() {
	if h.stopped.Load() {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 { // this runtime has it
		h.set(int64(growth(live[0].Value.Uint64())))
	}
	runtime.AddCleanup(new([64]byte), (*heapLimit).afterCollection, h)
}

// set sets the growth unless it is set already, because that stops all goroutines for a moment.
func (h *heapLimit) set(percent int64) {
	if h.percent.Swap(percent) != percent {
		debug.SetGCPercent(int(percent))
	}
}

// stop leaves the growth as it is from now on.
func (h *heapLimit) stop() {
	if h != nil {
		h.stopped.Store(true)
	}
}

// growth returns the growth in percent for the bytes that a collection left.
func growth(live uint64) int {
	percent := math.Ceil(heapRoom * 100 / float64(max(live, 1)))
	return int(min(max(percent, minGCPercent), maxGCPercent))
}
