package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// Why there is no answer about an address.
var (
	// ErrOverBudget says that so many searches in so short a time are not allowed.
	ErrOverBudget = errors.New("the budget of searches is used up")
	// ErrUnanswered says that no directory answered in time, or none can be asked now.
	ErrUnanswered = errors.New("no directory answers")
)

const (
	// missesLast and hitsLast limit how long an answer is remembered. The first keeps
	// repeated questions for one address away from the directory; it is about as long as
	// the index takes to learn of a new address. The second bounds a hit while no pass
	// succeeds. A hit ends earlier, with the first good pass that began after it: from
	// then on the index knows the address, or it was removed, or the followed controller
	// lags behind, and only another search can tell.
	missesLast = 5 * time.Second
	hitsLast   = 30 * time.Second

	// maxRemembered bounds the answers that are remembered.
	maxRemembered = 1024
)

// ConfirmConfig says how directories are asked about single addresses.
type ConfirmConfig struct {
	Directories []Confirmed   // at least one
	Timeout     time.Duration // for which one waits for an answer; must be positive
	PerSecond   float64       // how many addresses may be asked about; must be positive

	Counters *ConfirmCounters // of those before too; nil: its own
	// Before is the one that this one takes over from: where the directory and the timeout
	// are the same, its connection stays. Nil: there was none.
	Before *Confirmer

	Now func() time.Time // nil: time.Now
}

// Confirmed is a directory that can be asked.
type Confirmed struct {
	Mirror *Mirror
	// MayOwn reports whether addresses in a canonical domain may be this directory's; nil:
	// all may.
	MayOwn func(domain string) bool
}

// Found is what came out of asking about an address. The zero value: nobody has it.
type Found struct {
	Known      bool
	Restricted bool // Known, and every owner is restricted to inside senders
}

// Confirmer asks the directories themselves about an address that the index does not
// know, over connections that Run keeps. What it may cost them is bounded: so many
// searches a second, each once for all who ask at a time, an answer remembered for some
// seconds, and none at all while a controller fails. What it may cost the caller is
// bounded too: the timeout, and nothing where there is no connection. All methods may be
// called concurrently.
type Confirmer struct {
	config  ConfirmConfig
	askers  []*asker // of the directories, in their order
	limit   *rate.Limiter
	flights singleflight.Group
	counts  *ConfirmCounters

	mu      sync.Mutex // guards answers
	answers map[address.Address]remembered
}

type remembered struct {
	found     Found
	at, until time.Time
}

// ConfirmCounts says how often what came out since the start.
type ConfirmCounts struct {
	Found      int64 // an owner
	NotFound   int64 // none
	Remembered int64 // one of these two, from memory or together with somebody else
	OverBudget int64 // no search: too many of them
	Unanswered int64 // no answer, or nobody to ask
}

// ConfirmCounters count, for one Confirmer or for several that follow each other. The zero
// value is ready; all methods may be called concurrently.
type ConfirmCounters struct{ found, notFound, remembered, overBudget, unanswered atomic.Int64 }

// Counts are those since it was made.
func (c *ConfirmCounters) Counts() ConfirmCounts {
	return ConfirmCounts{Found: c.found.Load(), NotFound: c.notFound.Load(), Remembered: c.remembered.Load(),
		OverBudget: c.overBudget.Load(), Unanswered: c.unanswered.Load()}
}

// NewConfirmer checks the configuration. It does nothing before Run.
func NewConfirmer(config ConfirmConfig) (*Confirmer, error) {
	switch {
	case len(config.Directories) == 0:
		return nil, errors.New("confirm: no directory to ask")
	case config.Timeout <= 0:
		return nil, fmt.Errorf("confirm: a timeout of %v is none", config.Timeout)
	case !(config.PerSecond > 0):
		return nil, fmt.Errorf("confirm: with %v searches a second there is none", config.PerSecond)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Counters == nil {
		config.Counters = new(ConfirmCounters)
	}
	c := &Confirmer{config: config, counts: config.Counters, answers: map[address.Address]remembered{}}
	c.limit = rate.NewLimiter(rate.Limit(config.PerSecond), int(max(1, math.Ceil(config.PerSecond))))
	for _, d := range config.Directories {
		c.askers = append(c.askers, config.Before.askerOf(d.Mirror, config.Timeout))
	}
	c.config.Before = nil // it has served
	return c, nil
}

// askerOf is the asker of a directory, if there is one that fits, or a new one.
func (c *Confirmer) askerOf(m *Mirror, timeout time.Duration) *asker {
	if c != nil {
		for _, a := range c.askers {
			if a.m == m && a.timeout == timeout {
				return a
			}
		}
	}
	return newAsker(m, timeout)
}

// Runners are what keeps the connections, for a Group, in place of Run.
func (c *Confirmer) Runners() []Runner {
	if c == nil {
		return nil
	}
	var all []Runner
	for _, a := range c.askers {
		all = append(all, a)
	}
	return all
}

// Run keeps a connection to a controller of each directory until the context ends, and
// returns nil then.
func (c *Confirmer) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, a := range c.askers {
		running.Go(func() { a.run(ctx) })
	}
	running.Wait()
	return nil
}

// Counts are those of its counters.
func (c *Confirmer) Counts() ConfirmCounts { return c.counts.Counts() }

// Status is where each directory is asked, in their order.
func (c *Confirmer) Status() []AskerStatus {
	var all []AskerStatus
	for _, a := range c.askers {
		all = append(all, a.state())
	}
	return all
}

// Confirm asks every directory that may own the address for an object that has exactly
// this one. A suspect is somebody whose questions are not worth much: they are asked only
// while half of the budget stays for others. An error means that nothing can be told:
// ErrOverBudget, ErrUnanswered, or the end of the context.
func (c *Confirmer) Confirm(ctx context.Context, a address.Address, suspect bool) (Found, error) {
	if found, ok := c.recall(a); ok {
		c.counts.remembered.Add(1)
		return found, nil
	}
	own := false // this call asks, and does not only wait for another one's answer
	answer, err, _ := c.flights.Do(a.String(), func() (any, error) {
		own = true
		return c.search(ctx, a, suspect)
	})
	switch {
	case errors.Is(err, ErrOverBudget):
		c.counts.overBudget.Add(1)
	case err != nil:
		c.counts.unanswered.Add(1)
	case !own:
		c.counts.remembered.Add(1)
	case answer.(Found).Known:
		c.counts.found.Add(1)
	default:
		c.counts.notFound.Add(1)
	}
	if err != nil {
		return Found{}, err
	}
	return answer.(Found), nil
}

// search asks the directories, and waits for what they say.
func (c *Confirmer) search(ctx context.Context, a address.Address, suspect bool) (Found, error) {
	asked := c.who(a.Domain())
	if len(asked) == 0 {
		return Found{}, nil // nobody may have it
	}
	if !anyUp(asked) {
		return Found{}, ErrUnanswered
	}
	if !c.afford(suspect) {
		return Found{}, ErrOverBudget
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	found, err := ask(ctx, asked, a)
	if err == nil {
		c.remember(a, found)
	} else if found.Known {
		err = nil // as far as one can tell
	}
	return found, err
}

// who lists the directories that may own a domain.
func (c *Confirmer) who(domain string) []*asker {
	var asked []*asker
	for i, a := range c.askers {
		if mayOwn := c.config.Directories[i].MayOwn; mayOwn == nil || mayOwn(domain) {
			asked = append(asked, a)
		}
	}
	return asked
}

func anyUp(asked []*asker) bool {
	for _, a := range asked {
		if a.up.Load() {
			return true
		}
	}
	return false
}

// afford takes one search out of the budget, if it is in there.
func (c *Confirmer) afford(suspect bool) bool {
	now := c.config.Now()
	if suspect && c.limit.TokensAt(now)-1 < float64(c.limit.Burst())/2 {
		return false
	}
	return c.limit.AllowN(now, 1)
}

// ask puts one question to several directories at the same time. An owner who takes mail
// from everybody counts at once, whatever the others say; anything less takes all answers.
func ask(ctx context.Context, asked []*asker, a address.Address) (Found, error) {
	deadline, _ := ctx.Deadline()
	answers := make(chan answer, len(asked))
	for _, at := range asked {
		at.put(question{a, deadline, answers})
	}
	var found Found
	var failed error
	for range asked {
		select {
		case got := <-answers:
			found = found.or(got.found)
			failed = errors.Join(failed, got.err)
		case <-ctx.Done():
			return found, errors.Join(failed, fmt.Errorf("%w in time: %w", ErrUnanswered, ctx.Err()))
		}
		if found.Known && !found.Restricted {
			return found, nil
		}
	}
	return found, failed
}

// or joins the owners of one address: it is restricted only where all are.
func (f Found) or(g Found) Found {
	switch {
	case !f.Known:
		return g
	case !g.Known:
		return f
	}
	return Found{Known: true, Restricted: f.Restricted && g.Restricted}
}

// owned judges what a search for an address found. Active Directory compares with less
// regard to differences than we do, so that the values are looked at again.
func owned(o store.Object, a address.Address) Found {
	var found Found
	for _, own := range o.Addresses {
		if own.Address == a {
			found = found.or(Found{Known: true, Restricted: own.InternalOnly})
		}
	}
	return found
}

// recall returns the answer that is still remembered.
func (c *Confirmer) recall(a address.Address) (Found, bool) {
	c.mu.Lock()
	r, ok := c.answers[a]
	c.mu.Unlock()
	if !ok || !c.config.Now().Before(r.until) || r.found.Known && c.readSince(r.at, a.Domain()) {
		return Found{}, false
	}
	return r.found, true
}

// readSince reports whether a directory that may own a domain completed a pass that began
// after a time.
func (c *Confirmer) readSince(at time.Time, domain string) bool {
	return slices.ContainsFunc(c.who(domain), func(asked *asker) bool {
		_, good := asked.m.State()
		return good.After(at)
	})
}

func (c *Confirmer) remember(a address.Address, found Found) {
	now := c.config.Now()
	lasts := missesLast
	if found.Known {
		lasts = hitsLast
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) >= maxRemembered {
		c.clear(now)
	}
	c.answers[a] = remembered{found, now, now.Add(lasts)}
}

// clear makes room: what is over goes, and where that is nothing, any.
func (c *Confirmer) clear(now time.Time) {
	for a, r := range c.answers {
		if !now.Before(r.until) {
			delete(c.answers, a)
		}
	}
	for a := range c.answers {
		if len(c.answers) < maxRemembered {
			return
		}
		delete(c.answers, a)
	}
}
