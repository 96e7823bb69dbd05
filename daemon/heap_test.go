package daemon

import (
	"runtime/debug"
	"testing"
)

func TestLimitHeap(t *testing.T) {
	for _, c := range []struct {
		name, environment string
		want              int
	}{{"by default", "", gcPercent}, {"the operator's value", "200", 100}} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GOGC", c.environment)
			before := debug.SetGCPercent(100) // the runtime reads GOGC only at the start
			limitHeap()
			if got := debug.SetGCPercent(before); got != c.want {
				t.Errorf("GC percent is %d, want %d", got, c.want)
			}
		})
	}
}
