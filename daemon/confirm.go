package daemon

import (
	"context"
	"reflect"
	"slices"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
)

// directoryConfirmer searches the directories of one configuration for recipients. The zero value searches
// none.
type directoryConfirmer struct {
	*mirror.Confirmer // nil if confirm is off
	config            config.Confirm
	directories       directorySet
}

// prepareConfirmer creates the confirmer of a configuration. It reuses the active confirmer and its connections
// if nothing would change.
func (d *daemon) prepareConfirmer(c config.Confirm, directories directorySet) (directoryConfirmer, error) {
	now := *d.confirmer.Load()
	if c == now.config && slices.EqualFunc(directories, now.directories, sameDirectory) {
		return now, nil
	}
	next := directoryConfirmer{config: c, directories: directories}
	if !c.Enabled || len(directories) == 0 {
		return next, nil
	}
	list := make([]mirror.ConfirmDirectory, 0, len(directories))
	for _, f := range directories {
		list = append(list, mirror.ConfirmDirectory{Mirror: f.Mirror, MayOwn: f.config.MayOwn})
	}
	var err error
	next.Confirmer, err = mirror.NewConfirmer(mirror.ConfirmConfig{
		Directories: list, Timeout: c.Timeout, PerSecond: c.PerSecond, Counters: d.confirmCounters,
		Previous: now.Confirmer,
	})
	return next, err
}

func sameDirectory(a, b syncedDirectory) bool {
	return a.Mirror == b.Mirror && reflect.DeepEqual(a.config, b.config)
}

// applyConfirmer activates a prepared confirmer.
func (d *daemon) applyConfirmer(next directoryConfirmer) {
	before := d.confirmer.Swap(&next)
	if before.Confirmer == next.Confirmer {
		return
	}
	old, new := before.Runners(), next.Runners()
	d.confirmWorkers.Remove(without(old, new)...)
	d.confirmWorkers.Add(without(new, old)...)
}

// without returns the runners in all that are not in others.
func without(all, others []mirror.Runner) []mirror.Runner {
	return slices.DeleteFunc(slices.Clone(all), func(r mirror.Runner) bool { return slices.Contains(others, r) })
}

// policy returns the confirmer for a policy. It returns a nil interface if confirm is off.
func (c directoryConfirmer) policy() policy.Confirmer {
	if c.Confirmer == nil {
		return nil
	}
	return c.Confirmer
}

// status returns the status of the confirmer, or nil if it is off.
func (c directoryConfirmer) status() *control.ConfirmStatus {
	if c.Confirmer == nil {
		return nil
	}
	n := c.Counts()
	s := &control.ConfirmStatus{Found: n.Found, NotFound: n.NotFound, Remembered: n.Remembered,
		OverBudget: n.OverBudget, Unanswered: n.Unanswered}
	for _, a := range c.Status() {
		at := control.ConfirmDirectory{Name: a.Directory, DomainController: a.Controller, Followed: a.Followed}
		if a.LastError != nil {
			at.LastError = a.LastError.Error()
		}
		s.Directories = append(s.Directories, at)
	}
	return s
}

// findForEdge searches a directory of this hub on behalf of an edge that follows it. The edge must not learn of the
// addresses of other directories.
func (d *daemon) findForEdge(
	ctx context.Context, directory string, a address.Address,
) (found, internalOnly bool, err error) {
	c := d.confirmer.Load().Confirmer
	if c == nil {
		return false, false, errNoConfirm
	}
	entry, err := c.ConfirmIn(ctx, directory, a)
	if err == nil && entry.Known {
		if own, err := d.index().Lookup(a); err == nil && !own.Known {
			d.wake(a.Domain()) // the pass publishes the address to all edges
		}
	}
	return entry.Known, entry.InternalOnly, err
}

// wake starts a pass of each directory that may own a domain. It is called after a directory has confirmed a
// recipient that is not in the index.
func (set directorySet) wake(domain string) {
	for _, d := range set {
		if d.config.MayOwn(domain) {
			d.Wake()
		}
	}
}
