package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rcpt-milter/address"
	"rcpt-milter/directory"
)

const (
	// askerQueue is how many questions wait for a connection that is busy.
	confirmQueue = 64

	// keepAlive is how often an idle connection is used: controllers close idle ones after
	// 15 minutes, firewalls after fewer, and a lost one shows only in use.
	keepAliveInterval = time.Minute

	// secondBest is how long the controller that is followed is asked, where no other one
	// answered, before they are tried again.
	fallbackInterval = 15 * time.Minute
)

// errElsewhere says that another controller should be asked from now on.
var errBetterController = errors.New("another controller is better")

// question is about one address.
type confirmRequest struct {
	address  address.Address
	deadline time.Time         // nobody waits any more then
	reply    chan confirmReply // has room
}

// late reports whether nobody waits any more.
func (q confirmRequest) expired() bool { return time.Until(q.deadline) <= 0 }

type confirmReply struct {
	result ConfirmResult
	err    error
}

// asker keeps a connection to a controller of one directory: to another one than the
// mirror follows, where there is one, because it may know what that one has not heard of
// yet. It connects in its own time, never for a question.
type confirmWorker struct {
	m         *Mirror
	timeout   time.Duration
	requests  chan confirmRequest
	connected atomic.Bool // there is a connection

	keepAlive, fallbackInterval time.Duration // as the constants, but in tests

	// Of the goroutine that runs.
	failures *backoff.ExponentialBackOff // since an answer came
	retry    *confirmRequest             // the connection was lost over it: to be asked over a new one

	mu     sync.Mutex // guards status
	status ConfirmStatus
}

// ConfirmStatus is where a directory is asked about single addresses.
type ConfirmStatus struct {
	Directory  string
	Controller string // DNS name; empty: there is no connection
	Followed   bool   // it is the one that the mirror follows: there is no other, or none that answers
	LastError  error  // why there is no connection
}

func newConfirmWorker(m *Mirror, timeout time.Duration) *confirmWorker {
	a := &confirmWorker{m: m, timeout: timeout, requests: make(chan confirmRequest, confirmQueue),
		keepAlive: keepAliveInterval, fallbackInterval: fallbackInterval, failures: newBackoff(time.Second)}
	a.status.Directory = m.Name()
	return a
}

func (a *confirmWorker) currentStatus() ConfirmStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *confirmWorker) updateStatus(change func(*ConfirmStatus)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.status)
}

// put asks a question. It never blocks: who cannot be asked now has no answer.
func (a *confirmWorker) enqueue(q confirmRequest) {
	err := ErrUnanswered
	if a.connected.Load() {
		select {
		case a.requests <- q:
			return
		default:
			err = fmt.Errorf("%w: too many questions wait", ErrUnanswered)
		}
	}
	q.reply <- confirmReply{err: err}
}

// Run makes an asker a Runner.
func (a *confirmWorker) Run(ctx context.Context) error {
	a.run(ctx)
	return nil
}

// run connects and answers until the context ends. After a failure it waits, longer and
// longer until an answer comes, so that a controller that fails costs few questions. It
// begins when a controller has taken our credentials: to try wrong ones at two places at
// once would soon lock the account.
func (a *confirmWorker) run(ctx context.Context) {
	select {
	case <-a.m.reached:
	case <-ctx.Done():
		return
	}
	defer a.dropRetry()
	for ctx.Err() == nil {
		secret := a.m.config.Secret()
		err := Safely(a.m.config.Log, "confirm", func() error { return a.serve(ctx) })
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errBetterController), a.retry != nil:
		case needsNewSecret(err):
			a.recordFailure(err)
			a.m.awaitSecret(ctx, secret, err)
		default:
			a.recordFailure(err)
			timer := time.NewTimer(a.failures.NextBackOff())
			waitAny(ctx, context.Background(), timer.C)
			timer.Stop()
		}
	}
}

// failed notes why there is no connection.
func (a *confirmWorker) recordFailure(err error) {
	a.updateStatus(func(s *ConfirmStatus) { s.LastError = err })
	if a.m.setWarning("confirm", fmt.Errorf("recipients cannot be confirmed: %w", err), watchWarning) {
		a.m.config.Log.Warn("recipients cannot be confirmed, the index is believed", "error", err)
	}
}

// serve connects, and answers until something fails or another controller is better.
func (a *confirmWorker) serve(ctx context.Context) error {
	at := a.m.followedController()
	c, err := a.connect(ctx)
	if err != nil {
		a.dropRetry()
		return err
	}
	defer a.disconnect(c)
	a.setReady(c)
	if err := a.retryPending(ctx, c.source); err != nil {
		return err
	}
	tick, better := time.NewTicker(a.keepAlive), time.NewTicker(a.fallbackInterval)
	defer tick.Stop()
	defer better.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case q := <-a.requests:
			err = a.handle(ctx, c.source, q)
		case <-tick.C:
			err = a.ping(ctx, c.source)
		case <-better.C:
			err = a.checkController(&c)
		case <-at.replaced.Done():
			at = a.m.followedController()
			err = a.checkController(&c)
		}
	}
	return err
}

// settled reports with errElsewhere that another controller should be asked: this is the
// one that the mirror follows by now, and there are others.
func (a *confirmWorker) checkController(c *confirmConn) error {
	candidates, followed := a.m.candidatesFollowedLast()
	c.followed = c.root.InvocationID == followed
	a.updateStatus(func(s *ConfirmStatus) { s.Followed = c.followed })
	if c.followed && len(candidates) > 1 {
		return errBetterController
	}
	return nil
}

// connected is a connection, and where it leads.
type confirmConn struct {
	source   Source
	root     directory.Root
	followed bool // to the controller that the mirror follows
}

// connect takes the first controller that answers and is not the one that is followed, or
// that one if there is no other. Which one answers, it says itself: several names may
// lead to one.
func (a *confirmWorker) connect(ctx context.Context) (confirmConn, error) {
	candidates, followed := a.m.candidatesFollowedLast()
	var failed []error
	var second confirmConn
	for _, candidate := range candidates {
		c, err := a.connectTo(ctx, candidate)
		switch {
		case err != nil:
			failed = append(failed, err)
		case c.root.InvocationID != followed:
			second.close()
			return c, nil
		default:
			second.close()
			second, second.followed = c, true
		}
		if ctx.Err() != nil || needsNewSecret(err) { // trying on may lock the account
			break
		}
	}
	if second.source != nil && ctx.Err() == nil {
		return second, nil
	}
	second.close()
	return confirmConn{}, errors.Join(failed...)
}

// reach connects to one candidate.
func (a *confirmWorker) connectTo(ctx context.Context, candidate Candidate) (confirmConn, error) {
	source, err := a.m.openSecondary(ctx, candidate)
	if err != nil {
		return confirmConn{}, err
	}
	root, err := source.Root(ctx)
	if err != nil {
		source.Close()
		return confirmConn{}, err
	}
	return confirmConn{source: source, root: root}, nil
}

func (c confirmConn) close() {
	if c.source != nil {
		c.source.Close()
	}
}

// ready lets questions come.
func (a *confirmWorker) setReady(c confirmConn) {
	a.m.setWarning("confirm", nil, 0)
	a.updateStatus(func(s *ConfirmStatus) { s.Controller, s.Followed, s.LastError = c.root.DNSHostName, c.followed, nil })
	a.connected.Store(true)
	a.m.config.Log.Info("recipients can be confirmed", "controller", c.root.DNSHostName, "followed", c.followed)
}

// hangUp lets no more questions come, and answers those that wait.
func (a *confirmWorker) disconnect(c confirmConn) {
	a.connected.Store(false)
	a.updateStatus(func(s *ConfirmStatus) { s.Controller, s.Followed = "", false })
	c.close()
	for {
		select {
		case q := <-a.requests:
			q.reply <- confirmReply{err: ErrUnanswered}
		default:
			return
		}
	}
}

// answer searches for one address. After an error the connection is of no use any more.
// One that was lost, as happens to connections, is not the question's fault: it is asked
// over the next one, if there is the time.
func (a *confirmWorker) handle(ctx context.Context, source Source, q confirmRequest) error {
	if q.expired() {
		q.reply <- confirmReply{err: ErrUnanswered}
		return nil
	}
	found, err := a.find(ctx, source, q)
	if errors.Is(err, directory.ErrUnreachable) {
		a.retry = &q
		return err
	}
	q.reply <- confirmReply{found, err}
	return err
}

// resume asks what the last connection was lost over.
func (a *confirmWorker) retryPending(ctx context.Context, source Source) error {
	if a.retry == nil || a.retry.expired() {
		a.dropRetry()
		return nil
	}
	q := *a.retry
	a.retry = nil
	found, err := a.find(ctx, source, q)
	q.reply <- confirmReply{found, err}
	return err
}

// giveUp leaves the question that the last connection was lost over without an answer.
func (a *confirmWorker) dropRetry() {
	if a.retry != nil {
		a.retry.reply <- confirmReply{err: ErrUnanswered}
		a.retry = nil
	}
}

func (a *confirmWorker) find(ctx context.Context, source Source, q confirmRequest) (found ConfirmResult, err error) {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	objects, err := source.Find(ctx, q.address)
	if err != nil {
		return ConfirmResult{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	a.failures.Reset()
	for _, o := range objects {
		found = found.merge(ownership(classify(o, a.m.config.Rules), q.address))
	}
	return found, nil
}

// stillThere uses the connection, so that it stays, and finds out that it did not.
func (a *confirmWorker) ping(ctx context.Context, source Source) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	_, err := source.Root(ctx)
	return err
}
