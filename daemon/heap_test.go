package daemon

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestLimitHeap: the growth of the heap follows its size, unless the operator has set GOGC.
func TestLimitHeap(t *testing.T) {
	const other = 77 // the runtime reads GOGC only at the start
	for _, c := range []struct {
		name, environment string
		follows           bool
	}{{"by default", "", true}, {"the operator's value", "200", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GOGC", c.environment)
			before := debug.SetGCPercent(other)
			limit := limitHeap()
			defer func() {
				limit.stop()
				debug.SetGCPercent(before)
			}()
			if got := gcPercent(); (got != other) != c.follows {
				t.Fatalf("GC percent is %d, it was %d", got, other)
			}
			if !c.follows {
				return
			}
			large := make([]byte, 10*heapRoom)
			for deadline := time.Now().Add(time.Minute); gcPercent() > minGCPercent; runtime.GC() {
				if time.Now().After(deadline) {
					t.Fatalf("GC percent is %d with a large heap, want %d", gcPercent(), minGCPercent)
				}
			}
			runtime.KeepAlive(large)
		})
	}
}

// gcPercent returns the growth that the runtime uses.
func gcPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		name string
		live uint64
		want int
	}{
		{"before the first collection", 0, maxGCPercent},
		{"small", heapRoom / 2, maxGCPercent},
		{"as large as the room", heapRoom, 100},
		{"medium", 2 * heapRoom, 50},
		{"rounded up", 3 * heapRoom, 34},
		{"large", 100 * heapRoom, minGCPercent},
		{"largest", math.MaxUint64, minGCPercent},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := growth(c.live); got != c.want {
				t.Errorf("%d percent, want %d", got, c.want)
			}
		})
	}
}
