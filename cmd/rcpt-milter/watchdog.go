package main

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"rcpt-milter/address"
)

// watchdog tells systemd that the daemon can still answer, twice in the time that it
// allows (WatchdogSec of the unit). A look-up that hangs is one that is not told of, and
// systemd ends and restarts us. One that fails is an answer: "cannot tell".
type watchdog struct {
	every  time.Duration // zero: nobody wants to know
	answer func()        // looks something up
}

// newWatchdog looks for what systemd wants in the environment.
func newWatchdog(answer func()) (*watchdog, error) {
	allowed, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return &watchdog{every: allowed / 2, answer: answer}, nil
}

// Run tells systemd until ctx ends.
func (w *watchdog) Run(ctx context.Context) error {
	if w.every == 0 {
		return nil
	}
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		w.answer()
		notify(systemd.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// probe is an address that needs no owner to be looked up.
var probe, _ = address.Parse("postmaster@watchdog.invalid")
