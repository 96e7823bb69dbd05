package harvest

import (
	"testing"
	"time"
)

// TestProbe: a probe waits for each lock that a RCPT may wait for.
func TestProbe(t *testing.T) {
	m := NewMemory()
	for _, held := range []int{0, shards - 1} {
		m.shards[held].mu.Lock()
		done := make(chan struct{})
		go func() { m.Probe(); close(done) }()
		select {
		case <-done:
			t.Errorf("the probe does not wait for shard %d", held)
		case <-time.After(20 * time.Millisecond):
		}
		m.shards[held].mu.Unlock()
		<-done
	}
}
