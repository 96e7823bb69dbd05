package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// pastIndex is the index as it was at a time, for the policy of today.
type pastIndex struct {
	index
	at time.Time
}

func (i pastIndex) Lookup(a address.Address) (policy.Entry, error) {
	p, err := i.store.At(a, i.at)
	if err != nil {
		return policy.Entry{}, err
	}
	return policy.Entry{Known: p.Known, InternalOnly: p.InternalOnly, Removed: p.Removed}, nil
}

// Freshness takes what had been read by then as fresh: how old the last good pass was
// at that moment is not kept.
func (i pastIndex) Freshness(domain string) policy.Freshness {
	for _, d := range i.directories {
		if d.config.MayOwn(domain) && !i.store.Directory(d.Name()).ReadBy(i.at) {
			return policy.Freshness{State: policy.NotReady, Directory: d.Name()}
		}
	}
	return policy.Freshness{State: policy.Fresh}
}

// assumed is what an answer about the past takes for granted.
var assumed = []string{
	"assumed: today's configuration, and that every directory read in full by then was fresh",
	"assumed: no client over the harvest limit, and nobody found by asking the directory itself",
}

// notKept lets the client tell the error from others.
func notKept(err error) error { return notKeptError{err} }

type notKeptError struct{ error }

func (e notKeptError) Unwrap() []error { return []error{e.error, control.ErrNotKept} }

// lookupAt decides as at a time in the past.
func (b backend) lookupAt(ctx context.Context, q control.LookupQuery, query policy.Query) (control.LookupAnswer, error) {
	at := q.At.Time
	if at.After(b.now()) {
		return control.LookupAnswer{}, fmt.Errorf("%s is still to come", at.Format(time.RFC3339))
	}
	c := b.config.Load()
	// An address removed shortly before is deferred, so that the grace must be kept too.
	if from, err := b.store.JournalFrom(); err == nil && at.Add(-c.RemovalGrace).Before(from) {
		return control.LookupAnswer{}, notKept(fmt.Errorf("%w; it reaches back to %s, and removal_grace takes %s of that",
			store.ErrNotKept, from.Local().Format(time.RFC3339), c.RemovalGrace))
	}
	policy, err := newPolicy(c, pastIndex{b.index(), at}, b.files, live{}, func() time.Time { return at })
	if err != nil {
		return control.LookupAnswer{}, err
	}
	d := policy.Decide(ctx, query)
	if errors.Is(d.Err, store.ErrNotKept) {
		return control.LookupAnswer{}, notKept(d.Err)
	}
	answer := answerOf(d)
	answer.Address, answer.At, answer.Assumed = q.Address, q.At, assumed
	return answer, b.describeAt(found(d), at, &answer)
}

// describeAt adds what the store knows of the address at that time, and its whole
// history. Where the decision needed no index, what is not kept is no error.
func (b backend) describeAt(a address.Address, at time.Time, answer *control.LookupAnswer) error {
	if a.IsZero() {
		return nil
	}
	then, err := b.store.At(a, at)
	if err != nil && !errors.Is(err, store.ErrNotKept) {
		return err
	}
	for _, o := range then.Owners {
		answer.Owners = append(answer.Owners, ownerOf(o))
	}
	if !then.Known {
		answer.Removed = control.Time{Time: then.Removed}
	}
	history, err := b.store.History(a)
	for _, e := range history {
		answer.History = append(answer.History, rowOf(e))
	}
	return err
}

// HasDomain reports whether the index had an address of a domain then. Where the journal
// cannot be read it is as now.
func (i pastIndex) HasDomain(domain string) bool {
	had, err := i.store.HadDomain(domain, i.at)
	if err != nil {
		return i.store.HasDomain(domain)
	}
	return had
}
