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

// Errors of Confirm. Both mean that there is no answer.
var (
	// ErrOverBudget means that PerSecond allows no further search now.
	ErrOverBudget = errors.New("the budget of searches is used up")
	// ErrUnanswered means that no directory answered in time, or that there is no
	// connection.
	ErrUnanswered = errors.New("no directory answers")
)

const (
	// missTTL and hitTTL limit how long an answer is cached. A cached miss keeps repeated
	// requests for one address away from the directory; the index takes about as long to
	// learn a new address. hitTTL limits a hit while no pass succeeds. The first good pass
	// that began after a hit ends it earlier: the index knows the address now, or the address
	// was removed, or the followed controller lags behind, and only another search can tell.
	// Without an answer to that search the hit still counts, until hitTTL is over.
	missTTL = 5 * time.Second
	hitTTL  = 30 * time.Second

	// maxCached limits the number of cached answers.
	maxCached = 1024
)

// ConfirmConfig configures a Confirmer.
type ConfirmConfig struct {
	Directories []ConfirmDirectory // at least one
	Timeout     time.Duration      // of one answer; must be positive
	PerSecond   float64            // searches a second; must be positive

	Counters *ConfirmCounters // kept over a reload; nil means new ones
	// Previous is the Confirmer that this one replaces. Its connections stay if the
	// directory and the timeout are the same. It may be nil.
	Previous *Confirmer

	Now func() time.Time // nil: time.Now
}

// ConfirmDirectory is a directory that answers requests.
type ConfirmDirectory struct {
	Mirror *Mirror
	// MayOwn reports whether the directory may own addresses in a canonical domain; nil
	// means all.
	MayOwn func(domain string) bool
}

// ConfirmResult is the answer for an address. The zero value means that no object has it.
type ConfirmResult struct {
	Known        bool
	InternalOnly bool // Known, and every owner accepts inside senders only
}

// Confirmer asks the directories for an address that the index does not know, over
// connections that Run keeps. It limits the load on them: a number of searches a second,
// one search for all concurrent callers with the same address, answers cached for some
// seconds, and no search while a controller fails. A caller waits at most for the timeout,
// and not at all without a connection. All methods may be called concurrently.
type Confirmer struct {
	config   ConfirmConfig
	workers  []*confirmWorker // in the order of the directories
	limit    *rate.Limiter
	inFlight singleflight.Group
	counters *ConfirmCounters

	mu    sync.Mutex // guards cache
	cache map[address.Address]cachedResult
}

type cachedResult struct {
	result      ConfirmResult
	at, expires time.Time
}

// ConfirmCounts are the numbers of answers since the start.
type ConfirmCounts struct {
	Found      int64 // at least one owner
	NotFound   int64 // no owner
	Remembered int64 // either of these, from the cache or from another caller's search
	OverBudget int64 // no search, because of the budget
	Unanswered int64 // no answer, or no connection
}

// ConfirmCounters count answers, for one Confirmer or for several that replace each other.
// The zero value is ready. All methods may be called concurrently.
type ConfirmCounters struct{ found, notFound, remembered, overBudget, unanswered atomic.Int64 }

// Counts returns the present values.
func (c *ConfirmCounters) Counts() ConfirmCounts {
	return ConfirmCounts{Found: c.found.Load(), NotFound: c.notFound.Load(), Remembered: c.remembered.Load(),
		OverBudget: c.overBudget.Load(), Unanswered: c.unanswered.Load()}
}

// NewConfirmer validates the configuration. It starts nothing.
func NewConfirmer(config ConfirmConfig) (*Confirmer, error) {
	switch {
	case len(config.Directories) == 0:
		return nil, errors.New("confirm: no directories")
	case config.Timeout <= 0:
		return nil, fmt.Errorf("confirm: timeout must be positive, got %v", config.Timeout)
	case !(config.PerSecond > 0):
		return nil, fmt.Errorf("confirm: per_second must be positive, got %v", config.PerSecond)
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
	c.config.Previous = nil // no longer needed
	return c, nil
}

// workerFor returns the worker of this Confirmer for a directory, or a new one if there is
// none with the same timeout.
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

// Runners returns what keeps the connections, to be run by a Group instead of Run.
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

// Run keeps a connection to a controller of each directory until ctx ends, and returns nil.
func (c *Confirmer) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, a := range c.workers {
		running.Go(func() { a.run(ctx) })
	}
	running.Wait()
	return nil
}

// Counts returns the numbers of answers.
func (c *Confirmer) Counts() ConfirmCounts { return c.counters.Counts() }

// Status describes the connection of each directory, in their order.
func (c *Confirmer) Status() []ConfirmStatus {
	var all []ConfirmStatus
	for _, a := range c.workers {
		all = append(all, a.currentStatus())
	}
	return all
}

// Confirm asks every directory that may own the address for an object that has exactly this
// address. It asks for a suspect client only while half of the budget is left for others.
// An error means that there is no answer: ErrOverBudget, ErrUnanswered, or the error of
// ctx.
func (c *Confirmer) Confirm(ctx context.Context, a address.Address, suspect bool) (ConfirmResult, error) {
	if found, ok := c.cached(a); ok {
		c.counters.remembered.Add(1)
		return found, nil
	}
	own := false // this call searches; false: it waits for the search of another one
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
		// A pass has ended the last hit, but may have read a controller that lags behind.
		if r, ok := c.unexpired(a); ok && r.result.Known {
			return r.result, nil
		}
		return ConfirmResult{}, err
	}
	return answer.(ConfirmResult), nil
}

// search asks the directories and waits for their answers.
func (c *Confirmer) search(ctx context.Context, a address.Address, suspect bool) (ConfirmResult, error) {
	workers := c.workersFor(a.Domain())
	if len(workers) == 0 {
		return ConfirmResult{}, nil // no directory may own it
	}
	if !anyConnected(workers) {
		return ConfirmResult{}, ErrUnanswered
	}
	if !c.takeBudget(suspect) {
		return ConfirmResult{}, ErrOverBudget
	}
	// Other callers may wait for this search when the first one leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.config.Timeout)
	defer cancel()
	found, err := askAll(ctx, workers, a)
	if err == nil {
		c.cacheResult(a, found)
	} else if found.Known {
		err = nil // one owner is enough
	}
	return found, err
}

// workersFor returns the workers of the directories that may own a domain.
func (c *Confirmer) workersFor(domain string) []*confirmWorker {
	var workers []*confirmWorker
	for i, a := range c.workers {
		if mayOwn := c.config.Directories[i].MayOwn; mayOwn == nil || mayOwn(domain) {
			workers = append(workers, a)
		}
	}
	return workers
}

func anyConnected(workers []*confirmWorker) bool {
	for _, w := range workers {
		if w.connected.Load() {
			return true
		}
	}
	return false
}

// takeBudget takes one search from the budget, and reports whether there was one.
func (c *Confirmer) takeBudget(suspect bool) bool {
	now := c.config.Now()
	if suspect && c.limit.TokensAt(now)-1 < float64(c.limit.Burst())/2 {
		return false
	}
	return c.limit.AllowN(now, 1)
}

// askAll sends one request to several directories at once. An owner that accepts mail from
// all senders is enough; any other result needs all answers.
func askAll(ctx context.Context, workers []*confirmWorker, a address.Address) (ConfirmResult, error) {
	deadline, _ := ctx.Deadline()
	answers := make(chan confirmReply, len(workers))
	for _, w := range workers {
		w.enqueue(confirmRequest{a, deadline, answers})
	}
	var found ConfirmResult
	var failed error
	for range workers {
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

// merge combines the owners of one address. The result is internal-only if all owners are.
func (f ConfirmResult) merge(g ConfirmResult) ConfirmResult {
	switch {
	case !f.Known:
		return g
	case !g.Known:
		return f
	}
	return ConfirmResult{Known: true, InternalOnly: f.InternalOnly && g.InternalOnly}
}

// ownership compares the found object with the address again, because Active Directory
// ignores more differences than our canonical form.
func ownership(o store.Object, a address.Address) ConfirmResult {
	var found ConfirmResult
	for _, own := range o.Addresses {
		if own.Address == a {
			found = found.merge(ConfirmResult{Known: true, InternalOnly: own.InternalOnly})
		}
	}
	return found
}

// cached returns an answer that saves a search. An internal-only recipient saves one for as long
// as an address without an owner: otherwise the time of a second answer would tell outside
// senders which of them exists.
func (c *Confirmer) cached(a address.Address) (ConfirmResult, bool) {
	r, ok := c.unexpired(a)
	switch {
	case !ok:
		return ConfirmResult{}, false
	case r.result.InternalOnly:
		ok = c.config.Now().Before(r.at.Add(missTTL))
	case r.result.Known:
		ok = !c.passedSince(r.at, a.Domain())
	}
	if !ok {
		return ConfirmResult{}, false
	}
	return r.result, true
}

// unexpired returns an answer whose time is not over.
func (c *Confirmer) unexpired(a address.Address) (cachedResult, bool) {
	c.mu.Lock()
	r, ok := c.cache[a]
	c.mu.Unlock()
	return r, ok && c.config.Now().Before(r.expires)
}

// passedSince reports whether a directory that may own a domain completed a pass that began
// after a time.
func (c *Confirmer) passedSince(at time.Time, domain string) bool {
	return slices.ContainsFunc(c.workersFor(domain), func(w *confirmWorker) bool {
		_, good := w.m.State()
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

// evict makes room in the cache. It removes expired answers, and any others if none has
// expired.
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
