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
	askerQueue = 64

	// keepAlive is how often an idle connection is used: controllers close idle ones after
	// 15 minutes, firewalls after fewer, and a lost one shows only in use.
	keepAlive = time.Minute

	// secondBest is how long the controller that is followed is asked, where no other one
	// answered, before they are tried again.
	secondBest = 15 * time.Minute
)

// errElsewhere says that another controller should be asked from now on.
var errElsewhere = errors.New("another controller is better")

// question is about one address.
type question struct {
	address  address.Address
	deadline time.Time   // nobody waits any more then
	answer   chan answer // has room
}

// late reports whether nobody waits any more.
func (q question) late() bool { return time.Until(q.deadline) <= 0 }

type answer struct {
	found ConfirmResult
	err   error
}

// asker keeps a connection to a controller of one directory: to another one than the
// mirror follows, where there is one, because it may know what that one has not heard of
// yet. It connects in its own time, never for a question.
type asker struct {
	m         *Mirror
	timeout   time.Duration
	questions chan question
	up        atomic.Bool // there is a connection

	keepAlive, secondBest time.Duration // as the constants, but in tests

	// Of the goroutine that runs.
	failures *backoff.ExponentialBackOff // since an answer came
	again    *question                   // the connection was lost over it: to be asked over a new one

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

func newAsker(m *Mirror, timeout time.Duration) *asker {
	a := &asker{m: m, timeout: timeout, questions: make(chan question, askerQueue),
		keepAlive: keepAlive, secondBest: secondBest, failures: newBackoff(time.Second)}
	a.status.Directory = m.Name()
	return a
}

func (a *asker) state() ConfirmStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *asker) update(change func(*ConfirmStatus)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.status)
}

// put asks a question. It never blocks: who cannot be asked now has no answer.
func (a *asker) put(q question) {
	err := ErrUnanswered
	if a.up.Load() {
		select {
		case a.questions <- q:
			return
		default:
			err = fmt.Errorf("%w: too many questions wait", ErrUnanswered)
		}
	}
	q.answer <- answer{err: err}
}

// Run makes an asker a Runner.
func (a *asker) Run(ctx context.Context) error {
	a.run(ctx)
	return nil
}

// run connects and answers until the context ends. After a failure it waits, longer and
// longer until an answer comes, so that a controller that fails costs few questions. It
// begins when a controller has taken our credentials: to try wrong ones at two places at
// once would soon lock the account.
func (a *asker) run(ctx context.Context) {
	select {
	case <-a.m.admitted:
	case <-ctx.Done():
		return
	}
	defer a.giveUp()
	for ctx.Err() == nil {
		secret := a.m.config.Secret()
		err := Safely(a.m.config.Log, "confirm", func() error { return a.serve(ctx) })
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errElsewhere), a.again != nil:
		case awaitsSecret(err):
			a.failed(err)
			a.m.awaitSecret(ctx, secret, err)
		default:
			a.failed(err)
			timer := time.NewTimer(a.failures.NextBackOff())
			linger(ctx, context.Background(), timer.C)
			timer.Stop()
		}
	}
}

// failed notes why there is no connection.
func (a *asker) failed(err error) {
	a.update(func(s *ConfirmStatus) { s.LastError = err })
	if a.m.warn("confirm", fmt.Errorf("recipients cannot be confirmed: %w", err), warnWatch) {
		a.m.config.Log.Warn("recipients cannot be confirmed, the index is believed", "error", err)
	}
}

// serve connects, and answers until something fails or another controller is better.
func (a *asker) serve(ctx context.Context) error {
	at := a.m.whom()
	c, err := a.connect(ctx)
	if err != nil {
		a.giveUp()
		return err
	}
	defer a.hangUp(c)
	a.ready(c)
	if err := a.resume(ctx, c.source); err != nil {
		return err
	}
	tick, better := time.NewTicker(a.keepAlive), time.NewTicker(a.secondBest)
	defer tick.Stop()
	defer better.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case q := <-a.questions:
			err = a.answer(ctx, c.source, q)
		case <-tick.C:
			err = a.stillThere(ctx, c.source)
		case <-better.C:
			err = a.settled(&c)
		case <-at.moved.Done():
			at = a.m.whom()
			err = a.settled(&c)
		}
	}
	return err
}

// settled reports with errElsewhere that another controller should be asked: this is the
// one that the mirror follows by now, and there are others.
func (a *asker) settled(c *connected) error {
	candidates, followed := a.m.controllers()
	c.followed = c.root.InvocationID == followed
	a.update(func(s *ConfirmStatus) { s.Followed = c.followed })
	if c.followed && len(candidates) > 1 {
		return errElsewhere
	}
	return nil
}

// connected is a connection, and where it leads.
type connected struct {
	source   Source
	root     directory.Root
	followed bool // to the controller that the mirror follows
}

// connect takes the first controller that answers and is not the one that is followed, or
// that one if there is no other. Which one answers, it says itself: several names may
// lead to one.
func (a *asker) connect(ctx context.Context) (connected, error) {
	candidates, followed := a.m.controllers()
	var failed []error
	var second connected
	for _, candidate := range candidates {
		c, err := a.reach(ctx, candidate)
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
		if ctx.Err() != nil || awaitsSecret(err) { // trying on may lock the account
			break
		}
	}
	if second.source != nil && ctx.Err() == nil {
		return second, nil
	}
	second.close()
	return connected{}, errors.Join(failed...)
}

// reach connects to one candidate.
func (a *asker) reach(ctx context.Context, candidate Candidate) (connected, error) {
	source, err := a.m.openAside(ctx, candidate)
	if err != nil {
		return connected{}, err
	}
	root, err := source.Root(ctx)
	if err != nil {
		source.Close()
		return connected{}, err
	}
	return connected{source: source, root: root}, nil
}

func (c connected) close() {
	if c.source != nil {
		c.source.Close()
	}
}

// ready lets questions come.
func (a *asker) ready(c connected) {
	a.m.warn("confirm", nil, 0)
	a.update(func(s *ConfirmStatus) { s.Controller, s.Followed, s.LastError = c.root.DNSHostName, c.followed, nil })
	a.up.Store(true)
	a.m.config.Log.Info("recipients can be confirmed", "controller", c.root.DNSHostName, "followed", c.followed)
}

// hangUp lets no more questions come, and answers those that wait.
func (a *asker) hangUp(c connected) {
	a.up.Store(false)
	a.update(func(s *ConfirmStatus) { s.Controller, s.Followed = "", false })
	c.close()
	for {
		select {
		case q := <-a.questions:
			q.answer <- answer{err: ErrUnanswered}
		default:
			return
		}
	}
}

// answer searches for one address. After an error the connection is of no use any more.
// One that was lost, as happens to connections, is not the question's fault: it is asked
// over the next one, if there is the time.
func (a *asker) answer(ctx context.Context, source Source, q question) error {
	if q.late() {
		q.answer <- answer{err: ErrUnanswered}
		return nil
	}
	found, err := a.find(ctx, source, q)
	if errors.Is(err, directory.ErrUnreachable) {
		a.again = &q
		return err
	}
	q.answer <- answer{found, err}
	return err
}

// resume asks what the last connection was lost over.
func (a *asker) resume(ctx context.Context, source Source) error {
	if a.again == nil || a.again.late() {
		a.giveUp()
		return nil
	}
	q := *a.again
	a.again = nil
	found, err := a.find(ctx, source, q)
	q.answer <- answer{found, err}
	return err
}

// giveUp leaves the question that the last connection was lost over without an answer.
func (a *asker) giveUp() {
	if a.again != nil {
		a.again.answer <- answer{err: ErrUnanswered}
		a.again = nil
	}
}

func (a *asker) find(ctx context.Context, source Source, q question) (found ConfirmResult, err error) {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	objects, err := source.Find(ctx, q.address)
	if err != nil {
		return ConfirmResult{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	a.failures.Reset()
	for _, o := range objects {
		found = found.or(owned(classify(o, a.m.config.Rules), q.address))
	}
	return found, nil
}

// stillThere uses the connection, so that it stays, and finds out that it did not.
func (a *asker) stillThere(ctx context.Context, source Source) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	_, err := source.Root(ctx)
	return err
}
