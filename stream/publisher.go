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

// SourceState describes the hub's mirror of the directory.
type SourceState struct {
	// Ready means that an address which is not in the store is unknown: a full pass has completed, and there is
	// no doubt about the index. The publisher publishes nothing unless Ready is set.
	Ready bool
	// Behind means that the directory is late or stale. A waiting hub that is not behind then takes over.
	Behind     bool
	Age        time.Duration // of the last good pass
	AgeUnknown bool          // the age cannot be determined because the clock changed
	Controller string        // the controller that the hub follows
	Pass       uint64        // number of the last good pass
}

// PublisherConfig configures a Publisher.
type PublisherConfig struct {
	Client    *Client
	Store     *store.Store
	Directory string
	Names     bool               // publish distinguished names
	Poll      time.Duration      // longest interval between two states; must be positive
	State     func() SourceState // state of the hub's mirror; required
	Version   string             // of this program
	Replicas  int                // of streams that the hub creates; 0 means 3 if the engine permits, otherwise 1
	// Lag is the longest time in which the changes of one controller reach another. After another hub has
	// published, addresses that only that hub knew stay published for Lag. 0 means 3 hours.
	Lag time.Duration
	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // required
	// Find answers an edge that asks whether the directory has an address now. Nil means that edges get no
	// answer.
	Find func(context.Context, address.Address) (found, internalOnly bool, err error)

	LeaseTTL time.Duration // after which another hub takes over; 0 means 15 seconds
}

// Defaults of PublisherConfig.
const (
	defaultLag      = 3 * time.Hour
	defaultLeaseTTL = 15 * time.Second
)

// Publisher publishes one directory of a store. Only one goroutine may call Run. All other methods are safe for
// concurrent use.
type Publisher struct {
	config PublisherConfig
	wake   chan struct{} // capacity 1

	mu     sync.Mutex // guards status
	status PublisherStatus

	id    string        // unique to this run
	pause time.Duration // pause after a flood of queries; tests change it

	// Fields below are used by Run only.
	watched  watched   // the stream as seen while another hub published
	waitedAt time.Time // when this hub last requested the lease

	renew     bool      // start a new generation in the next term
	renewedAt time.Time // when edges that were ahead last caused a new generation; zero means never
}

// PublisherStatus is the current state of a Publisher.
type PublisherStatus struct {
	Holder     string // name of the hub that holds the lease; empty means unknown
	Leading    bool   // this hub holds the lease
	Generation directory.GUID
	Sequence   uint64    // of the last published state
	Published  time.Time // when this hub published that state; zero means never
	Pending    int       // changed objects not yet published, as far as counted
	Withheld   int       // objects with addresses that only another hub knew, kept published for Lag
	TooLarge   int       // objects that do not fit in a message; they keep edges from proving an address unknown
	Digest     store.Digest
	LastError  error
	Since      time.Time // first failure since the last success; zero means no failure
	Edges      []EdgeReport
	EdgesAt    time.Time // when Edges were read; their ages are from that time
	EdgesError error     // why they could not be read since; nil means no error
	// Due is the sequence that every edge should have reached when Edges were read. 0 means unknown.
	Due uint64
}

// NewPublisher returns a publisher. Run starts it.
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

// Wake requests publication without delay. It never blocks.
func (p *Publisher) Wake() {
	select {
	case p.wake <- struct{}{}:
	default: // already requested
	}
}

// Status returns the current state.
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

// errNotReady reports that the store may lack addresses.
var errNotReady = errors.New("the index of this hub is not complete, so nothing is published; " +
	"edges keep what they have until it is")

// Run holds the lease, makes the stream equal to the store and publishes changes, until ctx ends. It then
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
		pause = p.nextPause(pause, err)
	}
	return nil
}

// nextPause returns how long to wait after a pause and an attempt. An attempt without an answer has waited
// already.
func (p *Publisher) nextPause(last time.Duration, err error) time.Duration {
	switch {
	case err == nil, errors.Is(err, errLeaseHeld):
		return min(retryMin, p.config.LeaseTTL/4)
	case errors.Is(err, directory.ErrTimeout):
		return retryMin
	}
	return min(max(2*last, retryMin), retryMax)
}

// Delays between attempts to publish.
const (
	retryMin = time.Second
	retryMax = 15 * time.Second
)

// wait waits for the pause. It returns early when a lost connection is back, which resets the pause to 0, or
// after a pass if forPass is set. It reports false if ctx has ended.
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

// term publishes while this hub holds the lease.
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

// lead takes the lease and publishes over one connection.
func (p *Publisher) lead(ctx context.Context, at session) error {
	prepare := p.prepare
	if at.managed {
		prepare = p.awaitStream
	}
	if err := prepare(ctx, at.js); err != nil {
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
	if !at.over() { // otherwise this hub resumes the lease, unless another hub has taken it
		lease.release()
	}
	p.update(func(s *PublisherStatus) { s.Leading, s.Holder = false, "" })
	return err
}

// keep renews the lease until ctx ends.
func (p *Publisher) keep(ctx context.Context, l *lease) error {
	return safely.Do(p.config.Log, "lease", func() error { return l.keep(ctx) })
}
