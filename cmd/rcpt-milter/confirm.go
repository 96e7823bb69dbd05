package main

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

// confirming asks the directories of one configuration about recipients. The zero value
// asks nobody.
type confirming struct {
	*mirror.Confirmer // nil: switched off
	config            config.Confirm
	directories       following
}

// planConfirm makes what asks the directories. As long as nothing changes about it, it
// stays, and with it its connections.
func (d *daemon) planConfirm(c config.Confirm, directories following) (confirming, error) {
	now := *d.confirming.Load()
	if c == now.config && slices.EqualFunc(directories, now.directories, sameFollowed) {
		return now, nil
	}
	next := confirming{config: c, directories: directories}
	if !c.Enabled || len(directories) == 0 {
		return next, nil
	}
	list := make([]mirror.ConfirmDirectory, 0, len(directories))
	for _, f := range directories {
		list = append(list, mirror.ConfirmDirectory{Mirror: f.Mirror, MayOwn: f.config.MayOwn})
	}
	var err error
	next.Confirmer, err = mirror.NewConfirmer(mirror.ConfirmConfig{
		Directories: list, Timeout: c.Timeout, PerSecond: c.PerSecond, Counters: d.confirmed,
		Previous: now.Confirmer,
	})
	return next, err
}

func sameFollowed(a, b followed) bool {
	return a.Mirror == b.Mirror && reflect.DeepEqual(a.config, b.config)
}

// changeConfirm goes over to what planConfirm made.
func (d *daemon) changeConfirm(next confirming) {
	before := d.confirming.Swap(&next)
	if before.Confirmer == next.Confirmer {
		return
	}
	old, new := before.Runners(), next.Runners()
	d.askers.Remove(without(old, new)...)
	d.askers.Add(without(new, old)...)
}

// without gives the runners that are not among others.
func without(all, others []mirror.Runner) []mirror.Runner {
	return slices.DeleteFunc(slices.Clone(all), func(r mirror.Runner) bool { return slices.Contains(others, r) })
}

// policy is it for a policy, which wants nil where there is none.
func (c confirming) policy() policy.Confirmer {
	if c.Confirmer == nil {
		return nil
	}
	return confirmer{c.Confirmer}
}

// confirmer puts answers into the words of the policy.
type confirmer struct{ *mirror.Confirmer }

func (c confirmer) Confirm(ctx context.Context, a address.Address, suspect bool) (policy.Entry, error) {
	found, err := c.Confirmer.Confirm(ctx, a, suspect)
	return policy.Entry{Known: found.Known, InternalOnly: found.InternalOnly}, err
}

// status is null where nobody is asked.
func (c confirming) status() *control.ConfirmStatus {
	if c.Confirmer == nil {
		return nil
	}
	n := c.Counts()
	s := &control.ConfirmStatus{Found: n.Found, NotFound: n.NotFound, Remembered: n.Remembered, OverBudget: n.OverBudget, Unanswered: n.Unanswered}
	for _, a := range c.Status() {
		at := control.ConfirmDirectory{Name: a.Directory, DomainController: a.Controller, Followed: a.Followed}
		if a.LastError != nil {
			at.LastError = a.LastError.Error()
		}
		s.Directories = append(s.Directories, at)
	}
	return s
}

// wake has the directories that may own a domain read soon: what one of them has told
// about a recipient, the index does not know yet.
func (n following) wake(domain string) {
	for _, d := range n {
		if d.config.MayOwn(domain) {
			d.Wake()
		}
	}
}
