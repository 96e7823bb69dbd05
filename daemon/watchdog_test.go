package daemon

import (
	"context"
	"testing"
	"time"
)

// TestWatchdogHangs: while a look-up does not return, the watchdog is silent.
func TestWatchdogHangs(t *testing.T) {
	states := make(chan string, 100)
	asked, hang := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	w := &watchdog{every: time.Millisecond, notify: func(state string) { states <- state }, answer: func() string {
		select {
		case asked <- struct{}{}:
		case <-hang:
		}
		return ""
	}}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for range 3 { // the look-up after these hangs
		<-asked
	}
	for range 3 {
		if got := <-states; got != "WATCHDOG=1" {
			t.Errorf("sent %q, want WATCHDOG=1", got)
		}
	}
	if len(states) > 0 {
		t.Errorf("sent %q while the lookup hangs", <-states)
	}
	cancel()
	close(hang)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWatchdogOff: without systemd there is nothing to do.
func TestWatchdogOff(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		fails     bool
	}{{"", "", false}, {"1000000", "1", false}, {"soon", "", true}} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		w, err := newWatchdog(func() string { t.Error("asked"); return "" })
		if (err != nil) != c.fails {
			t.Errorf("WATCHDOG_USEC=%s: %v", c.usec, err)
		}
		if err == nil {
			if err := w.Run(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}
