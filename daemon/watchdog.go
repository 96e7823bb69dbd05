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

// watchdog tells systemd that the daemon can still answer, at least twice in the time that
// it allows (WatchdogSec of the unit). A look-up that hangs is one that is not told of, and
// systemd ends and restarts us. One that fails is an answer: "cannot tell".
type watchdog struct {
	every  time.Duration // zero: nobody wants to know
	notify func(string)
	answer func() string // decides and looks something up; gives the state in a line for "systemctl status"
}

// stateAge is how old the state that "systemctl status" shows may be.
const stateAge = 5 * time.Second

// newWatchdog looks for what systemd wants in the environment.
func newWatchdog(answer func() string) (*watchdog, error) {
	allowed, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return &watchdog{every: min(allowed/2, stateAge), notify: notify, answer: answer}, nil
}

// Run tells systemd until ctx ends.
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

// probe is an address that needs no owner to be looked up.
var probe, _ = address.Parse("postmaster@watchdog.invalid")

// alive does what a RCPT does: it decides, and asks the index. It asks no directory.
func (d *daemon) alive() string {
	d.server.Policy().Decide(context.Background(), policy.Query{Recipient: probe.String()})
	d.store.Lookup(probe)
	state := control.Fresh
	for _, directory := range d.syncs.Directories() {
		state = control.Worst(state, directory.State)
	}
	line := fmt.Sprintf("%s, %s, %s", strings.ReplaceAll(string(state), "_", " "),
		text.Count(d.store.Totals().Addresses, "address", "addresses"), text.Count(d.server.Sessions(), "session", "sessions"))
	if d.reloads.lastOutcome().Refused != "" {
		line += "; the configuration last read is refused"
	}
	return line
}
