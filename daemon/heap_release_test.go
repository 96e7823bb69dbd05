package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// TestHeapRelease: memory returns to the system once, some time after a full pass, and not during a pass.
func TestHeapRelease(t *testing.T) {
	full := mirror.PassResult{Info: store.PassInfo{Kind: store.Full}}
	incremental := mirror.PassResult{Info: store.PassInfo{Kind: store.Incremental}}
	failed := mirror.PassResult{Info: full.Info, Err: errors.New("failed")}
	for _, tt := range []struct {
		name    string
		passes  []mirror.PassResult // one each minute
		running time.Duration       // a pass is running until then
		want    time.Duration       // 0: never
	}{
		{"no full pass", []mirror.PassResult{incremental, failed}, 0, 0},
		{"a full pass", []mirror.PassResult{full, incremental}, 0, heapReleaseDelay},
		{"several full passes", []mirror.PassResult{full, full}, 0, time.Minute + heapReleaseDelay},
		{"a pass is running", []mirror.PassResult{full}, heapReleaseDelay + 1, 2 * heapReleaseDelay},
		{"another full pass later", []mirror.PassResult{full, failed, failed, failed, full}, 0, heapReleaseDelay},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var freed []time.Duration
				h := newHeapRelease(func() bool { return time.Since(began) < tt.running })
				h.free = func() { freed = append(freed, time.Since(began)) }
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- h.Run(ctx) }()
				for _, r := range tt.passes {
					h.passEnded(r)
					time.Sleep(time.Minute) // of the bubble
				}
				time.Sleep(time.Hour)
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if got := append(freed, 0)[0]; got != tt.want || len(freed) > 1 {
					t.Errorf("freed after %v, want %v", freed, tt.want)
				}
			})
		})
	}
}
