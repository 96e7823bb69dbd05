package daemon

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/policy"
)

// canaries watches addresses whose presence or absence indicates a fault.
type canaries struct {
	named atomic.Pointer[config.Canaries]
	index func() index // returns the index in effect
	log   *slog.Logger

	mu     sync.Mutex
	raised map[address.Address]bool // canaries of refuse that are known, and canaries of accept that are missing
}

// newCanaries returns a watch without addresses.
func newCanaries(i func() index, log *slog.Logger) *canaries {
	c := &canaries{index: i, log: log, raised: map[address.Address]bool{}}
	c.Set(config.Canaries{})
	return c
}

// Set replaces the addresses. The next check uses them.
func (c *canaries) Set(named config.Canaries) { c.named.Store(&named) }

// Check logs changes since the last check. It runs after each pass.
func (c *canaries) Check() {
	named, index := c.named.Load(), c.index()
	for _, a := range named.Refuse {
		entry, err := index.Lookup(a)
		if err != nil || !c.changed(a, entry.Known) {
			continue
		}
		if entry.Known {
			c.log.Warn("canary of canaries.refuse is known", "address", a.String(), "owners", c.owners(a))
		} else {
			c.log.Info("canary of canaries.refuse is no longer known", "address", a.String())
		}
	}
	for _, a := range named.Accept {
		entry, err := index.Lookup(a)
		if err != nil || !entry.Known && !hasBeenRead(index, a.Domain()) || !c.changed(a, !entry.Known) {
			continue
		}
		if !entry.Known {
			c.log.Warn("canary of canaries.accept is not in the index; canary inactive", "address", a.String())
		}
	}
}

// hasBeenRead reports whether all directories of a domain have been read.
func hasBeenRead(i index, domain string) bool {
	switch i.Freshness(domain).State {
	case policy.NotReady, policy.Widening:
		return false
	default:
		return true
	}
}

// changed records whether a canary is raised. It reports whether that differs from the last check.
func (c *canaries) changed(a address.Address, raised bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.raised[a]
	c.raised[a] = raised
	return before != raised
}

// Alarms returns the active alarms, one sentence each.
func (c *canaries) Alarms() []string {
	var alarms []string
	index := c.index()
	for _, a := range c.named.Load().Refuse {
		entry, err := index.Lookup(a)
		switch {
		case err != nil:
			alarms = append(alarms, fmt.Sprintf("cannot determine whether %s (canaries.refuse) is known: %v", a, err))
		case entry.Known:
			alarms = append(alarms, fmt.Sprintf("%s (canaries.refuse) is known: %s", a, c.owners(a)))
		}
	}
	return alarms
}

// owners returns the owners of an address as text.
func (c *canaries) owners(a address.Address) string {
	detail, err := c.index().store.Describe(a)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, o := range detail.Owners {
		all = append(all, fmt.Sprintf("%s of directory %s has it", o.DN, o.Directory))
	}
	return strings.Join(all, ", ")
}
