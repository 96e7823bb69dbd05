package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/internal/text"
	"rcpt-milter/policy"
)

// watchdog reports to systemd that the daemon still answers, at least twice in the time of
// WatchdogSec. If a lookup hangs, the watchdog is silent, and systemd restarts the daemon. A
// lookup that fails has answered: "cannot tell".
type watchdog struct {
	every  time.Duration // zero if systemd expects no report
	notify func(string)
	answer func() string // decides and looks something up; gives the state in a line for "systemctl status"
}

// stateAge is the highest age of the state that "systemctl status" shows.
const stateAge = 5 * time.Second

// newWatchdog reads from the environment what systemd expects.
func newWatchdog(answer func() string) (*watchdog, error) {
	allowed, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return &watchdog{every: min(allowed/2, stateAge), notify: notify, answer: answer}, nil
}

// Run reports to systemd until ctx ends.
func (w *watchdog) Run(ctx context.Context) error {
	if w.every == 0 {
		return nil
	}
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		state := w.answer()
		w.notify(systemd.SdNotifyWatchdog)
		if state != "" {
			w.notify("STATUS=" + state)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// probe is an address without an owner.
var probe, _ = address.Parse("postmaster@watchdog.invalid")

// alive makes a decision and a lookup as a RCPT does, without a directory. It returns the state
// in a line for "systemctl status".
func (d *daemon) alive() string {
	d.server.Policy().Decide(context.Background(), policy.Query{Recipient: probe.String()})
	d.store.Lookup(probe)
	state := control.Fresh
	for _, directory := range d.syncs.Directories() {
		state = control.Worst(state, directory.State)
	}
	line := fmt.Sprintf("%s, %s, %s", strings.ReplaceAll(string(state), "_", " "),
		text.Count(d.store.Totals().Addresses, "address", "addresses"), text.Count(d.server.Sessions(), "session",
			"sessions"))
	if d.reloads.lastOutcome().Refused != "" {
		line += "; the configuration last read is refused"
	}
	return line
}
