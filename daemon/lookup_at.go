package daemon

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

// indexAt is the index at a past time, for use with the current policy.
type indexAt struct {
	index
	at time.Time
}

func (i indexAt) Lookup(a address.Address) (policy.Entry, error) {
	p, err := i.store.At(a, i.at)
	if err != nil {
		return policy.Entry{}, err
	}
	return entryOf(p.Presence), nil
}

// Freshness returns Fresh for each directory that had been read by that time. The age of the last good pass at
// that time is not recorded.
func (i indexAt) Freshness(domain string) policy.Freshness {
	for _, d := range i.directories {
		if d.config.MayOwn(domain) && !i.store.Directory(d.Name()).ReadBy(i.at) {
			return policy.Freshness{State: policy.NotReady, Directory: d.Name()}
		}
	}
	return policy.Freshness{State: policy.Fresh}
}

// pastAssumptions are the assumptions behind an answer about the past.
var pastAssumptions = []string{
	"assumed: today's configuration, and that every directory read in full by then was fresh",
	"assumed: no client over the harvest limit, and no recipient confirmed by the directory",
}

// notKept wraps an error with control.ErrNotKept for the client.
func notKept(err error) error { return notKeptError{err} }

type notKeptError struct{ error }

func (e notKeptError) Unwrap() []error { return []error{e.error, control.ErrNotKept} }

// lookupAt evaluates a query at a past time.
func (b backend) lookupAt(ctx context.Context, q control.LookupQuery, query policy.Query) (control.LookupAnswer,
	error) {
	at := q.At.Time
	if at.After(b.now()) {
		return control.LookupAnswer{}, fmt.Errorf("%s is in the future", at.Format(time.RFC3339))
	}
	c := b.config.Load()
	// The removal grace needs the journal of an earlier period as well.
	if from, err := b.store.JournalFrom(); err == nil && at.Add(-c.RemovalGrace).Before(from) {
		return control.LookupAnswer{},
			notKept(fmt.Errorf("%w; it reaches back to %s, and removal_grace takes %s of that",
				store.ErrNotKept, from.Local().Format(time.RFC3339), c.RemovalGrace))
	}
	policy, err := newPolicy(c, indexAt{b.index(), at}, b.files, queryChecks{}, func() time.Time { return at })
	if err != nil {
		return control.LookupAnswer{}, err
	}
	d := policy.Decide(ctx, query)
	if errors.Is(d.Err, store.ErrNotKept) {
		return control.LookupAnswer{}, notKept(d.Err)
	}
	answer := answerOf(d)
	answer.Address, answer.At, answer.Assumed = q.Address, q.At, pastAssumptions
	return answer, b.describeAt(subject(d), at, &answer)
}

// describeAt adds what the store knows about an address at a past time, and the whole history of the address.
// It ignores an incomplete journal if the decision did not need the index.
func (b backend) describeAt(a address.Address, at time.Time, answer *control.LookupAnswer) error {
	if a.IsZero() {
		return nil
	}
	then, err := b.store.At(a, at)
	if err != nil && !errors.Is(err, store.ErrNotKept) {
		return err
	}
	if !then.Known {
		answer.Removed = control.Time{Time: then.Removed}
	}
	history, err := b.store.History(a)
	addDetail(answer, then.Owners, history)
	return err
}

// HasDomain reports whether the index had an address in a domain at that time. If the journal cannot be read,
// it reports whether the index has one now.
func (i indexAt) HasDomain(domain string) bool {
	had, err := i.store.HadDomain(domain, i.at)
	if err != nil {
		return i.store.HasDomain(domain)
	}
	return had
}
