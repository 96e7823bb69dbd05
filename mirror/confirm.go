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
	missTTL = 5 * time.Second
	hitTTL  = 30 * time.Second

	// maxRemembered bounds the answers that are remembered.
	maxCached = 1024
)

// ConfirmConfig says how directories are asked about single addresses.
type ConfirmConfig struct {
	Directories []ConfirmDirectory // at least one
	Timeout     time.Duration      // for which one waits for an answer; must be positive
	PerSecond   float64            // how many addresses may be asked about; must be positive

	Counters *ConfirmCounters // of those before too; nil: its own
	// Previous is the one that this one takes over from: where the directory and the timeout
	// are the same, its connection stays. Nil: there was none.
	Previous *Confirmer

	Now func() time.Time // nil: time.Now
}

// ConfirmDirectory is a directory that can be asked.
type ConfirmDirectory struct {
	Mirror *Mirror
	// MayOwn reports whether addresses in a canonical domain may be this directory's; nil:
	// all may.
	MayOwn func(domain string) bool
}

// ConfirmResult is what came out of asking about an address. The zero value: nobody has it.
type ConfirmResult struct {
	Known        bool
	InternalOnly bool // Known, and every owner is restricted to inside senders
}

// Confirmer asks the directories themselves about an address that the index does not
// know, over connections that Run keeps. What it may cost them is bounded: so many
// searches a second, each once for all who ask at a time, an answer remembered for some
// seconds, and none at all while a controller fails. What it may cost the caller is
// bounded too: the timeout, and nothing where there is no connection. All methods may be
// called concurrently.
type Confirmer struct {
	config   ConfirmConfig
	workers  []*confirmWorker // of the directories, in their order
	limit    *rate.Limiter
	inFlight singleflight.Group
	counters *ConfirmCounters

	mu    sync.Mutex // guards answers
	cache map[address.Address]cachedResult
}

type cachedResult struct {
	result      ConfirmResult
	at, expires time.Time
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
	c := &Confirmer{config: config, counters: config.Counters, cache: map[address.Address]cachedResult{}}
	c.limit = rate.NewLimiter(rate.Limit(config.PerSecond), int(max(1, math.Ceil(config.PerSecond))))
	for _, d := range config.Directories {
		c.workers = append(c.workers, config.Previous.workerFor(d.Mirror, config.Timeout))
	}
	c.config.Previous = nil // it has served
	return c, nil
}

// askerOf is the asker of a directory, if there is one that fits, or a new one.
func (c *Confirmer) workerFor(m *Mirror, timeout time.Duration) *confirmWorker {
	if c != nil {
		for _, a := range c.workers {
			if a.m == m && a.timeout == timeout {
				return a
			}
		}
	}
	return newConfirmWorker(m, timeout)
}

// Runners are what keeps the connections, for a Group, in place of Run.
func (c *Confirmer) Runners() []Runner {
	if c == nil {
		return nil
	}
	var all []Runner
	for _, a := range c.workers {
		all = append(all, a)
	}
	return all
}

// Run keeps a connection to a controller of each directory until the context ends, and
// returns nil then.
func (c *Confirmer) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, a := range c.workers {
		running.Go(func() { a.run(ctx) })
	}
	running.Wait()
	return nil
}

// Counts are those of its counters.
func (c *Confirmer) Counts() ConfirmCounts { return c.counters.Counts() }

// Status is where each directory is asked, in their order.
func (c *Confirmer) Status() []ConfirmStatus {
	var all []ConfirmStatus
	for _, a := range c.workers {
		all = append(all, a.currentStatus())
	}
	return all
}

// Confirm asks every directory that may own the address for an object that has exactly
// this one. A suspect is somebody whose questions are not worth much: they are asked only
// while half of the budget stays for others. An error means that nothing can be told:
// ErrOverBudget, ErrUnanswered, or the end of the context.
func (c *Confirmer) Confirm(ctx context.Context, a address.Address, suspect bool) (ConfirmResult, error) {
	if found, ok := c.cached(a); ok {
		c.counters.remembered.Add(1)
		return found, nil
	}
	own := false // this call asks, and does not only wait for another one's answer
	answer, err, _ := c.inFlight.Do(a.String(), func() (any, error) {
		own = true
		return c.search(ctx, a, suspect)
	})
	switch {
	case errors.Is(err, ErrOverBudget):
		c.counters.overBudget.Add(1)
	case err != nil:
		c.counters.unanswered.Add(1)
	case !own:
		c.counters.remembered.Add(1)
	case answer.(ConfirmResult).Known:
		c.counters.found.Add(1)
	default:
		c.counters.notFound.Add(1)
	}
	if err != nil {
		return ConfirmResult{}, err
	}
	return answer.(ConfirmResult), nil
}

// search asks the directories, and waits for what they say.
func (c *Confirmer) search(ctx context.Context, a address.Address, suspect bool) (ConfirmResult, error) {
	asked := c.workersFor(a.Domain())
	if len(asked) == 0 {
		return ConfirmResult{}, nil // nobody may have it
	}
	if !anyConnected(asked) {
		return ConfirmResult{}, ErrUnanswered
	}
	if !c.takeBudget(suspect) {
		return ConfirmResult{}, ErrOverBudget
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	found, err := askAll(ctx, asked, a)
	if err == nil {
		c.cacheResult(a, found)
	} else if found.Known {
		err = nil // as far as one can tell
	}
	return found, err
}

// who lists the directories that may own a domain.
func (c *Confirmer) workersFor(domain string) []*confirmWorker {
	var asked []*confirmWorker
	for i, a := range c.workers {
		if mayOwn := c.config.Directories[i].MayOwn; mayOwn == nil || mayOwn(domain) {
			asked = append(asked, a)
		}
	}
	return asked
}

func anyConnected(asked []*confirmWorker) bool {
	for _, a := range asked {
		if a.connected.Load() {
			return true
		}
	}
	return false
}

// afford takes one search out of the budget, if it is in there.
func (c *Confirmer) takeBudget(suspect bool) bool {
	now := c.config.Now()
	if suspect && c.limit.TokensAt(now)-1 < float64(c.limit.Burst())/2 {
		return false
	}
	return c.limit.AllowN(now, 1)
}

// ask puts one question to several directories at the same time. An owner who takes mail
// from everybody counts at once, whatever the others say; anything less takes all answers.
func askAll(ctx context.Context, asked []*confirmWorker, a address.Address) (ConfirmResult, error) {
	deadline, _ := ctx.Deadline()
	answers := make(chan confirmReply, len(asked))
	for _, at := range asked {
		at.enqueue(confirmRequest{a, deadline, answers})
	}
	var found ConfirmResult
	var failed error
	for range asked {
		select {
		case got := <-answers:
			found = found.merge(got.result)
			failed = errors.Join(failed, got.err)
		case <-ctx.Done():
			return found, errors.Join(failed, fmt.Errorf("%w in time: %w", ErrUnanswered, ctx.Err()))
		}
		if found.Known && !found.InternalOnly {
			return found, nil
		}
	}
	return found, failed
}

// or joins the owners of one address: it is restricted only where all are.
func (f ConfirmResult) merge(g ConfirmResult) ConfirmResult {
	switch {
	case !f.Known:
		return g
	case !g.Known:
		return f
	}
	return ConfirmResult{Known: true, InternalOnly: f.InternalOnly && g.InternalOnly}
}

// owned judges what a search for an address found. Active Directory compares with less
// regard to differences than we do, so that the values are looked at again.
func ownership(o store.Object, a address.Address) ConfirmResult {
	var found ConfirmResult
	for _, own := range o.Addresses {
		if own.Address == a {
			found = found.merge(ConfirmResult{Known: true, InternalOnly: own.Restricted})
		}
	}
	return found
}

// recall returns the answer that is still remembered.
func (c *Confirmer) cached(a address.Address) (ConfirmResult, bool) {
	c.mu.Lock()
	r, ok := c.cache[a]
	c.mu.Unlock()
	if !ok || !c.config.Now().Before(r.expires) || r.result.Known && c.passedSince(r.at, a.Domain()) {
		return ConfirmResult{}, false
	}
	return r.result, true
}

// readSince reports whether a directory that may own a domain completed a pass that began
// after a time.
func (c *Confirmer) passedSince(at time.Time, domain string) bool {
	return slices.ContainsFunc(c.workersFor(domain), func(asked *confirmWorker) bool {
		_, good := asked.m.State()
		return good.After(at)
	})
}

func (c *Confirmer) cacheResult(a address.Address, found ConfirmResult) {
	now := c.config.Now()
	lasts := missTTL
	if found.Known {
		lasts = hitTTL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cache) >= maxCached {
		c.evict(now)
	}
	c.cache[a] = cachedResult{found, now, now.Add(lasts)}
}

// clear makes room: what is over goes, and where that is nothing, any.
func (c *Confirmer) evict(now time.Time) {
	for a, r := range c.cache {
		if !now.Before(r.expires) {
			delete(c.cache, a)
		}
	}
	for a := range c.cache {
		if len(c.cache) < maxCached {
			return
		}
		delete(c.cache, a)
	}
}
