package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// canaries watches addresses whose presence or absence indicates a fault. A canary in a domain alias is known by
// the same local part in a target.
type canaries struct {
	named atomic.Pointer[config.Config]
	files *tables.Files
	index func() index // returns the index in effect
	log   *slog.Logger

	mu     sync.Mutex
	raised map[address.Address]bool // canaries of refuse that are known, and canaries of accept that are missing
}

// newCanaries returns a watch without addresses.
func newCanaries(files *tables.Files, i func() index, log *slog.Logger) *canaries {
	c := &canaries{files: files, index: i, log: log, raised: map[address.Address]bool{}}
	c.Set(&config.Config{})
	return c
}

// Set replaces the addresses. The next check uses them.
func (c *canaries) Set(named *config.Config) { c.named.Store(named) }

// canaryForms returns the addresses in the index that a canary may stand for: itself, and the same local part in each
// target if the configuration or an accept file makes its domain an alias.
func canaryForms(c *config.Config, files *tables.Files, canary address.Address) []address.Address {
	forms := []address.Address{canary}
	direct := func(domain string) []string { return targetsOf(c, files, domain) }
	for target := range address.FollowAliases(canary.Domain(), direct, func(d string) string { return d }) {
		if len(forms) > policy.MaxTargets { // beyond, every recipient of the alias is accepted
			break
		}
		if form := canary.In(target); !form.IsZero() {
			forms = append(forms, form)
		}
	}
	return forms
}

// guardedCanaries returns a function that returns the addresses in the index that must not be removed, by
// canaries.accept.
func (sm *syncManager) guardedCanaries(c *config.Config) func() []address.Address {
	return func() []address.Address {
		var all []address.Address
		for _, a := range c.Canaries.Accept {
			all = append(all, canaryForms(c, sm.files, a)...)
		}
		return all
	}
}

// lookup returns the address by which the index knows a canary. It returns false if there is none, or if the index
// cannot tell.
func (c *canaries) lookup(i index, canary address.Address) (found address.Address, known bool, err error) {
	for _, form := range canaryForms(c.named.Load(), c.files, canary) {
		entry, lookupErr := i.Lookup(form)
		if entry.Known && lookupErr == nil {
			return form, true, nil
		}
		err = cmp.Or(err, lookupErr)
	}
	return address.Address{}, false, err
}

// Check logs changes since the last check. It runs after each pass.
func (c *canaries) Check() {
	named, index := c.named.Load().Canaries, c.index()
	for _, a := range named.Refuse {
		found, known, err := c.lookup(index, a)
		if err != nil || !c.changed(a, known) {
			continue
		}
		if known {
			c.log.Warn("canary of canaries.refuse is known", "address", a.String(), "owners", c.owners(found))
		} else {
			c.log.Info("canary of canaries.refuse is no longer known", "address", a.String())
		}
	}
	for _, a := range named.Accept {
		_, known, err := c.lookup(index, a)
		if err != nil || !known && !c.haveBeenRead(index, a) || !c.changed(a, !known) {
			continue
		}
		if !known {
			c.log.Warn("canary of canaries.accept is not in the index; canary inactive", "address", a.String())
		}
	}
}

// haveBeenRead reports whether all directories that may know a canary have been read.
func (c *canaries) haveBeenRead(i index, canary address.Address) bool {
	return !slices.ContainsFunc(canaryForms(c.named.Load(), c.files, canary), func(form address.Address) bool {
		return !hasBeenRead(i, form.Domain())
	})
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
	for _, a := range c.named.Load().Canaries.Refuse {
		found, known, err := c.lookup(index, a)
		switch {
		case err != nil:
			alarms = append(alarms, fmt.Sprintf("cannot determine whether %s (canaries.refuse) is known: %v", a, err))
		case known:
			alarms = append(alarms, fmt.Sprintf("%s (canaries.refuse) is known: %s", a, c.owners(found)))
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
