package stream

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/internal/safely"
	"rcpt-milter/store"
)

// SourceState is what the hub's mirror says of its directory.
type SourceState struct {
	// Ready means that an address which the store does not have is unknown: a full pass has
	// completed, and nothing casts doubt on the index. Otherwise nothing is published.
	Ready bool
	// Behind means that the directory is late or stale. A hub whose directory is not behind then takes over.
	Behind     bool
	Age        time.Duration // of the last good pass
	AgeUnknown bool          // the clock does not tell the age
	Controller string        // that is followed
	Pass       uint64        // number of the last good pass
}

// PublisherConfig configures a Publisher.
type PublisherConfig struct {
	Client    *Client
	Store     *store.Store
	Directory string
	Names     bool               // distinguished names travel too
	Poll      time.Duration      // the longest time between two states; must be positive
	State     func() SourceState // freshness of the hub's mirror
	Version   string             // of this program
	Replicas  int                // of the stream; 0 means 3 if the engine can, otherwise 1
	// Lag is the longest time until one controller has the changes of another. After another hub
	// has published, what only that hub knew stays published for so long. 0 means 3 hours.
	Lag time.Duration
	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // required
	// Find answers the question of an edge whether the directory has an address now. Nil means no
	// answer.
	Find func(context.Context, address.Address) (found, internalOnly bool, err error)

	LeaseTTL time.Duration // after which another hub takes over; 0 means 15 seconds
}

// Defaults of PublisherConfig.
const (
	defaultLag      = 3 * time.Hour
	defaultLeaseTTL = 15 * time.Second
)

// Publisher publishes one directory of a store. Run belongs to one goroutine; all other methods may be
// called concurrently.
type Publisher struct {
	config PublisherConfig
	wake   chan struct{} // has room for one

	mu     sync.Mutex // guards status
	status PublisherStatus

	id    string        // of this run
	pause time.Duration // without answers after a flood of questions; tests change it

	// Used by Run only.
	watched  watched   // what the hub saw while another one published
	waitedAt time.Time // when it last asked for the lease

	renew     bool      // the next term begins a new generation
	renewedAt time.Time // when the last one was begun because edges were ahead; zero means never
}

// PublisherStatus is the present state of a Publisher.
type PublisherStatus struct {
	Holder     string // name of the hub that has the lease; empty if none is known
	Leading    bool   // this hub has the lease
	Generation directory.GUID
	Sequence   uint64    // of the last published state
	Published  time.Time // when this hub published it; zero: never
	Pending    int       // objects that changed and are not published, as far as counted
	Withheld   int       // objects with addresses that only another hub knew, which stay for the lag
	TooLarge   int       // objects that no message can hold: edges cannot tell which addresses are unknown
	Digest     store.Digest
	LastError  error
	Since      time.Time // of the first failure since the last success; zero: no failure
	Edges      []EdgeReport
	// Due is the sequence that each edge should have reached before Edges were read. 0 means unknown.
	Due uint64
}

// NewPublisher returns a publisher. It starts nothing before Run.
func NewPublisher(c PublisherConfig) *Publisher {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Lag == 0 {
		c.Lag = defaultLag
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = defaultLeaseTTL
	}
	c.Log = c.Log.With("directory", c.Directory)
	return &Publisher{config: c, wake: make(chan struct{}, 1), id: rand.Text(), pause: floodPause}
}

// Wake publishes soon. It never blocks.
func (p *Publisher) Wake() {
	select {
	case p.wake <- struct{}{}:
	default: // requested already
	}
}

// Status returns the present state.
func (p *Publisher) Status() PublisherStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *Publisher) update(change func(*PublisherStatus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

// errNotReady means that the store may lack addresses.
var errNotReady = errors.New("the index of this hub is not complete, so nothing is published; " +
	"edges keep what they have until it is")

// Run holds the lease, compares the stream with the store and publishes, until ctx ends. It then
// returns nil.
func (p *Publisher) Run(ctx context.Context) error {
	pause := time.Duration(0)
	var err error
	for p.wait(ctx, &pause, errors.Is(err, errNotReady)) {
		err = p.term(ctx)
		if ctx.Err() != nil {
			break
		}
		p.record(err)
		if pause = min(max(2*pause, retryMin), retryMax); err == nil || errors.Is(err, errLeaseHeld) {
			pause = min(retryMin, p.config.LeaseTTL/4)
		}
	}
	return nil
}

// Delays between attempts to publish.
const (
	retryMin = time.Second
	retryMax = 15 * time.Second
)

// wait waits for a time, for a connection if there is none, or for a pass if the index was not ready. A
// connection sets the pause to 0. It reports false if ctx has ended.
func (p *Publisher) wait(ctx context.Context, pause *time.Duration, forPass bool) bool {
	if *pause == 0 {
		return ctx.Err() == nil
	}
	var wake <-chan struct{}
	if forPass {
		wake = p.wake
	}
	timer := time.NewTimer(*pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	case <-p.config.Client.away():
		*pause = 0
	}
	return ctx.Err() == nil
}

// record records the result of an attempt to publish.
func (p *Publisher) record(err error) {
	if errors.Is(err, errLeaseHeld) {
		err = nil
	}
	now := p.config.Now()
	p.update(func(s *PublisherStatus) {
		if err != nil && s.Since.IsZero() {
			s.Since = now
			p.config.Log.Warn("cannot publish", "error", err)
		}
		if err == nil {
			s.Since = time.Time{}
		}
		s.LastError = err
	})
}

// term publishes for as long as this hub holds the lease.
func (p *Publisher) term(ctx context.Context) error {
	if !p.config.State().Ready {
		return errNotReady
	}
	if err := p.config.Store.SetFeed(p.config.Directory, true); err != nil {
		return err
	}
	at, err := p.config.Client.session(ctx)
	if err != nil {
		return err
	}
	ctx, end := at.within(ctx)
	defer end()
	if err = p.lead(ctx, at); at.over() {
		return errLost
	}
	return err
}

// lead takes the lease and publishes, within one session.
func (p *Publisher) lead(ctx context.Context, at session) error {
	if err := p.prepare(ctx, at.js); err != nil {
		return err
	}
	lease, err := p.acquire(ctx, at.js)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var renewing sync.WaitGroup
	var kept error
	renewing.Go(func() {
		kept = p.keep(ctx, lease)
		cancel(kept)
	})
	renewing.Go(func() { p.answer(ctx) })
	err = (&term{p: p, js: at.js, lease: lease}).run(ctx)
	cancel(nil)
	renewing.Wait()
	err = cmp.Or(kept, err)
	if !at.over() { // otherwise this hub resumes the lease, unless another one has taken it meanwhile
		lease.release()
	}
	p.update(func(s *PublisherStatus) { s.Leading, s.Holder = false, "" })
	return err
}

// keep renews the lease until ctx ends.
func (p *Publisher) keep(ctx context.Context, l *lease) error {
	return safely.Do(p.config.Log, "lease", func() error { return l.keep(ctx) })
}
