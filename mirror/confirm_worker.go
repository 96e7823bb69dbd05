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
	"rcpt-milter/internal/safely"
	"rcpt-milter/policy"
)

const (
	// confirmQueue limits the requests that wait while the connection is busy.
	confirmQueue = 64

	// keepAliveInterval is the interval at which an idle connection is used. Controllers close idle connections
	// after 15 minutes, and firewalls do so earlier. A lost connection is detected only when it is used.
	keepAliveInterval = time.Minute

	// fallbackInterval is how long the worker uses the followed controller, if no other one answered, before it
	// tries the others again.
	fallbackInterval = 15 * time.Minute
)

// errBetterController reports that another controller is preferred from now on.
var errBetterController = errors.New("another controller is preferred")

// confirmRequest is a request to search for one address.
type confirmRequest struct {
	address  address.Address
	deadline time.Time         // when the caller stops waiting
	reply    chan confirmReply // has room for the reply
}

// expired reports whether the caller has stopped waiting.
func (q confirmRequest) expired() bool { return time.Until(q.deadline) <= 0 }

type confirmReply struct {
	result policy.Entry
	err    error
}

// confirmWorker maintains a connection to one controller of a directory. It prefers a controller that the
// mirror does not follow, which may already have changes that the followed one lacks. It connects in the
// background, never on behalf of a request.
type confirmWorker struct {
	m         *Mirror
	timeout   time.Duration
	requests  chan confirmRequest
	connected atomic.Bool // whether there is a connection

	keepAlive, fallbackInterval time.Duration // the constants, unless a test changes them

	// The following fields are used only by the goroutine of run.
	failures *backoff.ExponentialBackOff // failures since the last answer
	retry    *confirmRequest             // request whose connection was lost; sent again over the next one

	mu     sync.Mutex // guards status
	status ConfirmStatus
}

// ConfirmStatus is the state of the connection that confirms addresses in one directory.
type ConfirmStatus struct {
	Directory  string
	Controller string // DNS name; empty without a connection
	Followed   bool   // the controller is the one that the mirror follows, because no other one answers
	LastError  error  // why there is no connection
}

func newConfirmWorker(m *Mirror, timeout time.Duration) *confirmWorker {
	w := &confirmWorker{m: m, timeout: timeout, requests: make(chan confirmRequest, confirmQueue),
		keepAlive: keepAliveInterval, fallbackInterval: fallbackInterval, failures: newBackoff(time.Second)}
	w.status.Directory = m.Name()
	return w
}

func (w *confirmWorker) currentStatus() ConfirmStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

func (w *confirmWorker) updateStatus(change func(*ConfirmStatus)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.status)
}

// enqueue passes a request to the worker. It never blocks: if there is no connection, or if the queue is full,
// it replies at once with ErrUnanswered.
func (w *confirmWorker) enqueue(q confirmRequest) {
	err := ErrUnanswered
	if w.connected.Load() {
		select {
		case w.requests <- q:
			return
		default:
			err = fmt.Errorf("%w: too many requests are waiting", ErrUnanswered)
		}
	}
	q.reply <- confirmReply{err: err}
}

// Run implements Runner.
func (w *confirmWorker) Run(ctx context.Context) error {
	w.run(ctx)
	return nil
}

// run connects and answers until ctx ends. After a failure it pauses, and the pauses grow until an answer
// arrives, so a failing controller costs few requests. It starts only after a controller has accepted the
// credentials, because trying wrong ones over two connections would soon lock the account.
func (w *confirmWorker) run(ctx context.Context) {
	select {
	case <-w.m.reached:
	case <-ctx.Done():
		return
	}
	defer w.dropRetry()
	for ctx.Err() == nil {
		secret := w.m.config.Secret()
		err := safely.Do(w.m.config.Log, "confirm", func() error { return w.serve(ctx) })
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errBetterController), w.retry != nil:
		case needsNewSecret(err):
			w.recordFailure(err)
			w.m.awaitSecret(ctx, secret, err)
		default:
			w.recordFailure(err)
			timer := time.NewTimer(w.failures.NextBackOff())
			waitAny(ctx, context.Background(), timer.C)
			timer.Stop()
		}
	}
}

// recordFailure records why there is no connection.
func (w *confirmWorker) recordFailure(err error) {
	w.updateStatus(func(s *ConfirmStatus) { s.LastError = err })
	if w.m.setWarning("confirm", fmt.Errorf("recipients cannot be confirmed: %w", err), watchWarning) {
		w.m.config.Log.Warn("recipients cannot be confirmed, using the index alone", "error", err)
	}
}

// serve connects, and answers until an error occurs or another controller is preferred.
func (w *confirmWorker) serve(ctx context.Context) error {
	at := w.m.followedController()
	c, err := w.connect(ctx)
	if err != nil {
		w.dropRetry()
		return err
	}
	defer w.disconnect(c)
	w.setReady(c)
	if err := w.retryPending(ctx, c.source); err != nil {
		return err
	}
	tick, better := time.NewTicker(w.keepAlive), time.NewTicker(w.fallbackInterval)
	defer tick.Stop()
	defer better.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case q := <-w.requests:
			err = w.handle(ctx, c.source, q)
		case <-tick.C:
			err = w.ping(ctx, c.source)
		case <-better.C:
			err = w.checkController(&c)
		case <-at.replaced.Done():
			at = w.m.followedController()
			err = w.checkController(&c)
		}
	}
	return err
}

// checkController returns errBetterController if the mirror now follows this controller and there are others.
func (w *confirmWorker) checkController(c *confirmConn) error {
	candidates, followed := w.m.candidatesFollowedLast()
	c.followed = c.root.InvocationID == followed
	w.updateStatus(func(s *ConfirmStatus) { s.Followed = c.followed })
	if c.followed && len(candidates) > 1 {
		return errBetterController
	}
	return nil
}

// confirmConn is a connection with the controller that it leads to.
type confirmConn struct {
	source   Source
	root     directory.Root
	followed bool // the mirror follows this controller
}

// connect connects to the first controller that answers and that the mirror does not follow. If there is none,
// it connects to the followed one. It identifies controllers by their rootDSE, because several names may lead
// to one controller.
func (w *confirmWorker) connect(ctx context.Context) (confirmConn, error) {
	candidates, followed := w.m.candidatesFollowedLast()
	var failed []error
	var second confirmConn
	for _, candidate := range candidates {
		c, err := w.connectTo(ctx, candidate)
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
		if ctx.Err() != nil || needsNewSecret(err) { // another attempt may lock the account
			break
		}
	}
	if second.source != nil && ctx.Err() == nil {
		return second, nil
	}
	second.close()
	return confirmConn{}, errors.Join(failed...)
}

// connectTo connects to one candidate.
func (w *confirmWorker) connectTo(ctx context.Context, candidate Candidate) (confirmConn, error) {
	source, err := w.m.openSecondary(ctx, candidate)
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

// setReady starts accepting requests.
func (w *confirmWorker) setReady(c confirmConn) {
	w.m.setWarning("confirm", nil, 0)
	w.updateStatus(func(s *ConfirmStatus) {
		s.Controller, s.Followed, s.LastError = c.root.DNSHostName, c.followed, nil
	})
	w.connected.Store(true)
	w.m.config.Log.Info("recipients can be confirmed", "controller", c.root.DNSHostName, "followed", c.followed)
}

// disconnect stops accepting requests and fails those in the queue.
func (w *confirmWorker) disconnect(c confirmConn) {
	w.connected.Store(false)
	w.updateStatus(func(s *ConfirmStatus) { s.Controller, s.Followed = "", false })
	c.close()
	for {
		select {
		case q := <-w.requests:
			q.reply <- confirmReply{err: ErrUnanswered}
		default:
			return
		}
	}
}

// handle searches for one address. After an error, the connection must not be used again. If the connection was
// lost, handle keeps the request, which is sent over the next connection if there is time.
func (w *confirmWorker) handle(ctx context.Context, source Source, q confirmRequest) error {
	if q.expired() {
		q.reply <- confirmReply{err: ErrUnanswered}
		return nil
	}
	found, err := w.find(ctx, source, q)
	if errors.Is(err, directory.ErrUnreachable) {
		w.retry = &q
		return err
	}
	q.reply <- confirmReply{found, err}
	return err
}

// retryPending sends the request whose connection was lost.
func (w *confirmWorker) retryPending(ctx context.Context, source Source) error {
	if w.retry == nil || w.retry.expired() {
		w.dropRetry()
		return nil
	}
	q := *w.retry
	w.retry = nil
	found, err := w.find(ctx, source, q)
	q.reply <- confirmReply{found, err}
	return err
}

// dropRetry fails the request whose connection was lost.
func (w *confirmWorker) dropRetry() {
	if w.retry != nil {
		w.retry.reply <- confirmReply{err: ErrUnanswered}
		w.retry = nil
	}
}

func (w *confirmWorker) find(ctx context.Context, source Source, q confirmRequest) (found policy.Entry, err error) {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	objects, err := source.Find(ctx, q.address)
	if err != nil {
		return policy.Entry{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	w.failures.Reset()
	for _, o := range objects {
		found = merge(found, ownership(classify(o, w.m.config.Rules), q.address))
	}
	return found, nil
}

// ping uses the connection, which keeps it open and detects its loss.
func (w *confirmWorker) ping(ctx context.Context, source Source) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	_, err := source.Root(ctx)
	return err
}
