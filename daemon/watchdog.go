package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/singleflight"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/internal/safely"
	"rcpt-milter/internal/text"
)

// watchdog reports to systemd that the daemon still answers, at least twice per WatchdogSec. If anything that a
// RCPT needs hangs, the watchdog is silent, and systemd restarts the daemon. A failed lookup counts as an
// answer: "cannot tell".
type watchdog struct {
	every  time.Duration // zero if systemd expects no reports
	notify func(string)
	answer func() string // processes a test RCPT; returns a status line for "systemctl status"
}

// stateAge is the maximum age of the state that "systemctl status" shows.
const stateAge = 5 * time.Second

// newWatchdog reads the expectations of systemd from the environment.
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

// probeRCPT does what a RCPT does, except for searches in a directory. It decides about an unknown recipient of a
// judged domain, looks up an address, takes the locks of the harvest memory and of the record of refusals, and logs.
func (d *daemon) probeRCPT() {
	d.server.Probe()
	d.store.Lookup(probe)
	d.harvestMemory.Probe()
	d.refusals.probe()
}

// readyLimit limits the duration of a probe before the daemon counts as not ready.
const readyLimit = 5 * time.Second

// prober runs one probe at a time. Callers that arrive during a probe wait for its result.
type prober struct {
	log   *slog.Logger
	do    func()
	group singleflight.Group
}

// check returns nil after a successful probe, the error of a probe that panics, or an error if ctx ends first.
func (p *prober) check(ctx context.Context) error {
	probed := p.group.DoChan("", func() (any, error) {
		return nil, safely.Do(p.log, "probe", func() error { p.do(); return nil })
	})
	select {
	case result := <-probed:
		return result.Err
	case <-ctx.Done():
		return errors.New("recipients get no answer in time; read the log, or restart the daemon")
	}
}

// alive probes a RCPT and returns a status line for "systemctl status". It looks at nothing else on the disk: that
// might hang, although recipients get answers.
func (d *daemon) alive() string {
	d.probeRCPT()
	state := control.Fresh
	for _, observed := range d.observedStates() {
		state = control.Worst(state, stateOf(observed.state))
	}
	line := fmt.Sprintf("%s, %s, %s", strings.ReplaceAll(string(state), "_", " "),
		text.Count(d.store.Totals().Addresses, "address", "addresses"), text.Count(d.server.Sessions(), "session",
			"sessions"))
	if _, err := d.store.Lookup(probe); err != nil {
		line += "; recipients that the index does not find get 451"
	}
	if d.reloads.lastOutcome().Refused != "" {
		line += "; the configuration last read was rejected"
	}
	return line
}
