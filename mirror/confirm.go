package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"rcpt-milter/address"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// Errors of Confirm. Each means that there is no answer.
var (
	// ErrOverBudget reports that PerSecond permits no search at the moment.
	ErrOverBudget = errors.New("the budget of searches is used up")
	// ErrUnanswered reports that no directory answered in time, or that there is no connection.
	ErrUnanswered = errors.New("no directory answers")
)

const (
	// missTTL and hitTTL limit how long an answer is cached. A cached miss keeps repeated requests for one
	// address away from the directory; the index takes about as long to receive a new address. hitTTL limits a
	// hit as long as no pass succeeds. The first good pass that started after the hit ends it earlier, because
	// one of three things is true: the index has the address now, the address was removed, or the followed
	// controller lags behind. Only another search can tell. If that search gets no answer, the hit counts again
	// until hitTTL has elapsed.
	missTTL = 5 * time.Second
	hitTTL  = 30 * time.Second

	// maxCached limits the number of cached answers.
	maxCached = 1024
)

// ConfirmConfig configures a Confirmer.
type ConfirmConfig struct {
	Directories []ConfirmDirectory // at least one
	Timeout     time.Duration      // limit of one answer; must be positive
	PerSecond   float64            // searches per second; must be positive

	Counters *ConfirmCounters // survives reloads; nil means new counters
	// Previous is the Confirmer that this one replaces. Its connections are reused if directory and timeout are
	// the same. It may be nil.
	Previous *Confirmer

	Now func() time.Time // nil means time.Now
}

// ConfirmDirectory is a directory that confirms addresses.
type ConfirmDirectory struct {
	Mirror *Mirror
	// MayOwn reports whether the directory may own addresses in a canonical domain. Nil means all domains.
	MayOwn func(domain string) bool
}

// Confirmer searches the directories for addresses that the index does not have, over connections that Run
// maintains. It limits their load: it limits searches per second, shares one search among all concurrent
// callers with the same address, caches answers for some seconds, and does not search while a controller fails.
// A caller waits at most for the timeout, and does not wait if there is no connection. All methods are safe for
// concurrent use.
type Confirmer struct {
	config   ConfirmConfig
	workers  []*confirmWorker // in the order of the directories
	limit    *rate.Limiter
	inFlight singleflight.Group
	counters *ConfirmCounters

	mu    sync.Mutex // guards the fields below
	cache map[question]cachedResult
	paid  map[address.Address]payment
}

// payment permits one search for an address in each of some directories, without a further search of the budget.
type payment struct {
	directories []string
	expires     time.Time
}

// question is what a caller asks: who owns an address, in one directory or, if directory is empty, in all.
type question struct {
	address   address.Address
	directory string
}

// String returns a text that differs for all questions. Names of directories have no NUL.
func (q question) String() string { return q.directory + "\x00" + q.address.String() }

type cachedResult struct {
	result      policy.Entry
	at, expires time.Time
}

// ConfirmCounts are the numbers of answers since the start.
type ConfirmCounts struct {
	Found      int64 // at least one owner
	NotFound   int64 // no owner
	Remembered int64 // found or not found, from the cache or from the search of another caller
	OverBudget int64 // no search because of the budget
	Unanswered int64 // no answer, or no connection
}

// ConfirmCounters counts answers, for one Confirmer or for several that replace each other. The zero value is
// ready to use. All methods are safe for concurrent use.
type ConfirmCounters struct{ found, notFound, remembered, overBudget, unanswered atomic.Int64 }

// Counts returns the current values.
func (c *ConfirmCounters) Counts() ConfirmCounts {
	return ConfirmCounts{Found: c.found.Load(), NotFound: c.notFound.Load(), Remembered: c.remembered.Load(),
		OverBudget: c.overBudget.Load(), Unanswered: c.unanswered.Load()}
}

// NewConfirmer validates a configuration and returns a Confirmer for it. It starts nothing.
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
	c := &Confirmer{config: config, counters: config.Counters, cache: map[question]cachedResult{},
		paid: map[address.Address]payment{}}
	c.limit = rate.NewLimiter(rate.Limit(config.PerSecond), int(max(1, math.Ceil(config.PerSecond))))
	for _, d := range config.Directories {
		c.workers = append(c.workers, config.Previous.workerFor(d.Mirror, config.Timeout))
	}
	c.config.Previous = nil // no longer needed
	return c, nil
}

// workerFor returns this Confirmer's worker for a directory. If there is none with the same timeout, it returns
// a new one.
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

// Runners returns the parts that maintain the connections. Run them in a Group instead of calling Run.
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

// Run maintains a connection to a controller of each directory until ctx ends. It then returns nil.
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

// Status returns the state of each directory's connection, in the order of the directories.
func (c *Confirmer) Status() []ConfirmStatus {
	var all []ConfirmStatus
	for _, a := range c.workers {
		all = append(all, a.currentStatus())
	}
	return all
}

// Confirm implements policy.Confirmer; it sets only Known and InternalOnly of the entry. It searches every directory
// that may own the address for an object with exactly this address. For a suspect client, it searches only while
// half of the budget remains for others. An error means that there is no answer: ErrOverBudget, ErrUnanswered, or
// the error of ctx.
func (c *Confirmer) Confirm(ctx context.Context, a address.Address, suspect bool) (policy.Entry, error) {
	return c.confirm(ctx, question{address: a}, suspect)
}

// ConfirmIn is like Confirm, but searches one directory only. A directory that is not configured has no addresses.
// Questions for the same address in several directories take one search from the budget together.
func (c *Confirmer) ConfirmIn(ctx context.Context, directory string, a address.Address) (policy.Entry, error) {
	return c.confirm(ctx, question{a, directory}, false)
}

func (c *Confirmer) confirm(ctx context.Context, q question, suspect bool) (policy.Entry, error) {
	if found, ok := c.cached(q); ok {
		c.counters.remembered.Add(1)
		return found, nil
	}
	own := false // true if this call searches, false if it waits for another caller's search
	answer, err, _ := c.inFlight.Do(q.String(), func() (any, error) {
		own = true
		return c.search(ctx, q, suspect)
	})
	switch {
	case errors.Is(err, ErrOverBudget):
		c.counters.overBudget.Add(1)
	case err != nil:
		c.counters.unanswered.Add(1)
	case !own:
		c.counters.remembered.Add(1)
	case answer.(policy.Entry).Known:
		c.counters.found.Add(1)
	default:
		c.counters.notFound.Add(1)
	}
	if err != nil {
		// A pass has ended the last hit, but may have read a controller that lags behind.
		if r, ok := c.unexpired(q); ok && r.result.Known {
			return r.result, nil
		}
		return policy.Entry{}, err
	}
	return answer.(policy.Entry), nil
}

// search queries the directories and waits for their answers.
func (c *Confirmer) search(ctx context.Context, q question, suspect bool) (policy.Entry, error) {
	workers := c.workersFor(q)
	if len(workers) == 0 {
		return policy.Entry{}, nil // no directory may own it
	}
	if !anyConnected(workers) {
		return policy.Entry{}, ErrUnanswered
	}
	if !c.takeBudget(q, suspect) {
		return policy.Entry{}, ErrOverBudget
	}
	// Other callers may wait for this search even if the first one leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.config.Timeout)
	defer cancel()
	found, err := askAll(ctx, workers, q.address)
	if err == nil {
		c.cacheResult(q, found)
	} else if found.Known {
		err = nil // one owner is sufficient
	}
	return found, err
}

// workersFor returns the workers of the directories that a question is for and that may own the address.
func (c *Confirmer) workersFor(q question) []*confirmWorker {
	var workers []*confirmWorker
	for i, a := range c.workers {
		if q.directory != "" && q.directory != a.m.Name() {
			continue
		}
		if mayOwn := c.config.Directories[i].MayOwn; mayOwn == nil || mayOwn(q.address.Domain()) {
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

// takeBudget takes one search from the budget. It reports false if the budget is exhausted. An edge asks for each of
// its directories separately. Together, these questions cost the same as a search in all directories.
func (c *Confirmer) takeBudget(q question, suspect bool) bool {
	now := c.config.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isPaid(q, now) {
		return true
	}
	if suspect && c.limit.TokensAt(now)-1 < float64(c.limit.Burst())/2 {
		return false
	}
	if !c.limit.AllowN(now, 1) {
		return false
	}
	if q.directory != "" {
		c.payForOthers(q, now)
	}
	return true
}

// isPaid reports whether an earlier question for the same address has paid for this one, and uses that up. The caller
// holds the lock.
func (c *Confirmer) isPaid(q question, now time.Time) bool {
	p := c.paid[q.address]
	i := slices.Index(p.directories, q.directory)
	if i < 0 || !now.Before(p.expires) {
		return false
	}
	p.directories = slices.Delete(p.directories, i, i+1)
	c.paid[q.address] = p
	return true
}

// payForOthers permits a search for the same address in each other directory that may own it. The caller holds the
// lock.
func (c *Confirmer) payForOthers(q question, now time.Time) {
	if len(c.paid) >= maxCached {
		maps.DeleteFunc(c.paid, func(_ address.Address, p payment) bool { return !now.Before(p.expires) })
	}
	var others []string
	for _, w := range c.workersFor(question{address: q.address}) {
		if name := w.m.Name(); name != q.directory {
			others = append(others, name)
		}
	}
	if len(others) > 0 && len(c.paid) < maxCached {
		c.paid[q.address] = payment{others, now.Add(missTTL)}
	}
}

// askAll sends a request to several directories at once. An owner that accepts mail from all senders is
// sufficient; any other result requires all answers.
func askAll(ctx context.Context, workers []*confirmWorker, a address.Address) (policy.Entry, error) {
	deadline, _ := ctx.Deadline()
	answers := make(chan confirmReply, len(workers))
	for _, w := range workers {
		w.enqueue(confirmRequest{a, deadline, answers})
	}
	var found policy.Entry
	var failed error
	for range workers {
		select {
		case got := <-answers:
			found = merge(found, got.result)
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
func merge(f, g policy.Entry) policy.Entry {
	switch {
	case !f.Known:
		return g
	case !g.Known:
		return f
	}
	return policy.Entry{Known: true, InternalOnly: f.InternalOnly && g.InternalOnly}
}

// ownership compares the found object with the address again, because Active Directory ignores more differences
// than our canonical form does.
func ownership(o store.Object, a address.Address) policy.Entry {
	var found policy.Entry
	for _, own := range o.Addresses {
		if own.Address == a {
			found = merge(found, policy.Entry{Known: true, InternalOnly: own.InternalOnly})
		}
	}
	return found
}

// cached returns an answer that makes a search unnecessary. An internal-only recipient is cached for the same
// time as an address without an owner. Otherwise, the time of a second answer would reveal to outside senders
// which of them exists.
func (c *Confirmer) cached(q question) (policy.Entry, bool) {
	r, ok := c.unexpired(q)
	switch {
	case !ok:
		return policy.Entry{}, false
	case r.result.InternalOnly:
		ok = c.config.Now().Before(r.at.Add(missTTL))
	case r.result.Known:
		ok = !c.passedSince(r.at, q)
	}
	if !ok {
		return policy.Entry{}, false
	}
	return r.result, true
}

// unexpired returns a cached answer that has not expired.
func (c *Confirmer) unexpired(q question) (cachedResult, bool) {
	c.mu.Lock()
	r, ok := c.cache[q]
	c.mu.Unlock()
	return r, ok && c.config.Now().Before(r.expires)
}

// passedSince reports whether a directory that a question is for has completed a pass that started after a time.
func (c *Confirmer) passedSince(at time.Time, q question) bool {
	return slices.ContainsFunc(c.workersFor(q), func(w *confirmWorker) bool {
		_, good := w.m.State()
		return good.After(at)
	})
}

func (c *Confirmer) cacheResult(q question, found policy.Entry) {
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
	c.cache[q] = cachedResult{found, now, now.Add(lasts)}
}

// evict makes room in the cache. It removes expired answers, or arbitrary ones if none has expired.
func (c *Confirmer) evict(now time.Time) {
	for q, r := range c.cache {
		if !now.Before(r.expires) {
			delete(c.cache, q)
		}
	}
	for q := range c.cache {
		if len(c.cache) < maxCached {
			return
		}
		delete(c.cache, q)
	}
}
