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

// canaries watches addresses that tell when something is wrong.
type canaries struct {
	named atomic.Pointer[config.Canaries]
	index func() index // of this moment
	log   *slog.Logger

	mu     sync.Mutex
	raised map[address.Address]bool // known, of Refuse; missed, of Accept
}

// newCanaries watches nothing before Set.
func newCanaries(i func() index, log *slog.Logger) *canaries {
	c := &canaries{index: i, log: log, raised: map[address.Address]bool{}}
	c.Set(config.Canaries{})
	return c
}

// Set says which addresses they are, from the next check on.
func (c *canaries) Set(named config.Canaries) { c.named.Store(&named) }

// Check logs what changed since it was last called. It is called after every pass.
func (c *canaries) Check() {
	named, index := c.named.Load(), c.index()
	for _, a := range named.Refuse {
		entry, err := index.Lookup(a)
		if err != nil || !c.changed(a, entry.Known) {
			continue
		}
		if entry.Known {
			c.log.Error("an address that must not exist is known: it is named in canaries.refuse", "address", a.String(), "owners", c.owners(a))
		} else {
			c.log.Info("an address named in canaries.refuse is no longer known", "address", a.String())
		}
	}
	for _, a := range named.Accept {
		entry, err := index.Lookup(a)
		if err != nil || !entry.Known && !hasBeenRead(index, a.Domain()) || !c.changed(a, !entry.Known) {
			continue
		}
		if !entry.Known {
			c.log.Warn("an address named in canaries.accept is not known: it guards nothing", "address", a.String())
		}
	}
}

// hasBeenRead reports whether the directories of a domain have been read.
func hasBeenRead(i index, domain string) bool {
	switch i.Freshness(domain).State {
	case policy.NotReady, policy.Widening:
		return false
	default:
		return true
	}
}

// changed notes a state, and reports whether it is another one than before.
func (c *canaries) changed(a address.Address, raised bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.raised[a]
	c.raised[a] = raised
	return before != raised
}

// Alarms are those of this moment, a sentence each.
func (c *canaries) Alarms() []string {
	var alarms []string
	index := c.index()
	for _, a := range c.named.Load().Refuse {
		entry, err := index.Lookup(a)
		switch {
		case err != nil:
			alarms = append(alarms, fmt.Sprintf("whether %s is known, which canaries.refuse names, cannot be told: %v", a, err))
		case entry.Known:
			alarms = append(alarms, fmt.Sprintf("%s is known, which canaries.refuse names: %s", a, c.owners(a)))
		}
	}
	return alarms
}

// owners says who has an address.
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
