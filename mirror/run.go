package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rcpt-milter/directory"
	"rcpt-milter/internal/safely"
	"rcpt-milter/store"
)

// request collects what callers want from the next pass.
type request struct {
	full    bool
	again   bool // retry now what has failed
	done    []chan PassResult
	actions []func(error) // run between passes; called with an error if Run has ended
}

// ErrStopped is the error of a request to a mirror that is no longer running.
var ErrStopped = errors.New("the directory's mirror has stopped after a reload or shutdown; try again")

// fail answers all callers with an error.
func (r *request) fail(err error) {
	for _, done := range r.done {
		done <- PassResult{Err: err}
	}
	for _, act := range r.actions {
		act(err)
	}
}

// Sync requests a pass now. The returned channel receives the result of a pass that started after the call. The
// channel is buffered, so the caller may ignore it.
func (m *Mirror) Sync(full bool) <-chan PassResult {
	done := make(chan PassResult, 1)
	m.submit(func(r *request) {
		r.full = r.full || full
		r.done = append(r.done, done)
	})
	return done
}

// Retry ends the pauses after failures, because there is reason to expect success: it requests a pass, and
// retries change notifications. It never blocks.
func (m *Mirror) Retry() {
	m.submit(func(r *request) { r.again = true })
	select {
	case m.watchAgain <- struct{}{}:
	default: // already requested
	}
}

// submit adds to the pending request and wakes Run.
func (m *Mirror) submit(add func(*request)) {
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		var late request
		add(&late)
		late.fail(ErrStopped)
		return
	}
	add(&m.pending)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// Approve releases the removals that are held by passes up to the number upTo. It runs between two passes, or not
// at all if ctx ends before. 0 means the last completed pass. Approve never includes removals of a running pass,
// because the operator cannot have seen them. It returns an error if the held removals are Outdated.
func (m *Mirror) Approve(ctx context.Context, upTo uint64) (store.PassInfo, error) {
	upTo = approvableUpTo(m.config.Store.Directory(m.config.Name), upTo)
	return runBetweenPasses(ctx, m, func() (info store.PassInfo, err error) {
		if err = m.Outdated(); err == nil {
			info, err = m.config.Store.Approve(m.config.Name, upTo, m.fingerprint, m.config.Now())
		}
		logApproval(m.config.Log, info, err)
		return info, err
	})
}

// logApproval logs the outcome of Approve.
func logApproval(log *slog.Logger, info store.PassInfo, err error) {
	if err != nil {
		log.Warn("cannot approve held removals", "error", err)
		return
	}
	log.Info("held removals approved", "pass", info.Number, "removed", info.Removed)
}

// Outdated returns why the held removals do not apply to the current configuration, or nil if they do. Such
// removals were held under other rules, or by what another account or port showed. The next full pass judges
// them again.
func (m *Mirror) Outdated() error {
	stored := m.config.Store.Directory(m.config.Name)
	at := decodeCursor(stored.Cursor)
	switch {
	case stored.Hold == "":
		return nil
	case stored.Fingerprint != m.fingerprint:
		return store.ErrOtherRules
	case conflict(at.Account, m.config.Account):
		return fmt.Errorf("the directory was read with another account (%s) when these removals were held; "+
			"the next full pass judges them again", at.Account)
	case m.onlyOtherViews(at):
		return errors.New("another port was read, of the Global Catalog or not, when these removals were held; " +
			"the next full pass judges them again")
	}
	return nil
}

// approvableUpTo returns the last pass whose removals an approval up to upTo includes.
func approvableUpTo(stored store.Directory, upTo uint64) uint64 {
	if last := stored.Newest().Number; upTo == 0 || upTo > last {
		return last
	}
	return upTo
}

// Discard drops the held removals: the addresses stay until a full pass misses them again. It returns the
// number of objects that keep addresses. It runs between two passes, or not at all if ctx ends before.
func (m *Mirror) Discard(ctx context.Context) (int, error) {
	return runBetweenPasses(ctx, m, m.discard)
}

func (m *Mirror) discard() (int, error) {
	m.discarded = true
	objects, err := m.config.Store.Discard(m.config.Name, m.config.Now())
	logDiscard(m.config.Log, "held removals discarded", objects, err)
	return objects, err
}

// logDiscard logs the outcome of Discard.
func logDiscard(log *slog.Logger, done string, objects int, err error) {
	if err != nil {
		log.Warn("cannot discard held removals", "error", err)
		return
	}
	log.Info(done, "objects", objects)
}

// runBetweenPasses calls do while no pass is running. Run must be running. If ctx ends before do was called, do is
// never called, and the error is that of ctx. Afterwards runBetweenPasses waits for the result, so it always returns
// what happened.
func runBetweenPasses[T any](ctx context.Context, m *Mirror, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	var begun atomic.Bool // do will be called, or never
	m.submit(func(r *request) {
		r.actions = append(r.actions, func(err error) {
			if !begun.CompareAndSwap(false, true) {
				return
			}
			if err = cmp.Or(err, ctx.Err()); err != nil {
				done <- result{err: err}
				return
			}
			var r result
			r.err = safely.Do(m.config.Log, "command", func() (err error) {
				r.value, err = do()
				return err
			})
			done <- r
		})
	})
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	if begun.CompareAndSwap(false, true) {
		var none T
		return none, ctx.Err()
	}
	r := <-done
	return r.value, r.err
}

func (m *Mirror) takeRequest() request {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.pending
	m.pending = request{}
	return r
}

// Run runs passes until ctx ends: one every Poll, earlier after Sync, later after errors. It then cancels the
// running pass and returns nil.
func (m *Mirror) Run(ctx context.Context) error {
	defer m.hangUp()
	m.start()
	defer m.stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	if m.config.Notify {
		watching.Go(func() {
			_ = safely.Do(m.config.Log, "notification", func() error { m.watch(ctx); return nil })
		})
	}
	failures := newBackoff(m.config.Poll)
	for {
		began := time.Now()
		asked, secret := m.takeRequest(), m.config.Secret()
		for _, act := range asked.actions {
			act(nil)
		}
		if asked.again {
			failures.Reset()
		}
		result := m.Pass(ctx, asked.full)
		for _, done := range asked.done {
			done <- result
		}
		if ctx.Err() != nil || !m.waitForNext(ctx, began, m.nextPause(result.Err, failures), result.Err, secret) {
			return nil
		}
	}
}

func (m *Mirror) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = false
}

// stop fails the requests that are pending when Run ends, and all later ones.
func (m *Mirror) stop() {
	m.mu.Lock()
	left := m.pending
	m.pending, m.stopped = request{}, true
	m.mu.Unlock()
	left.fail(ErrStopped)
}

// newBackoff spaces the attempts after failures, from about a second (or the poll interval, if shorter) to a
// minute. The jitter keeps many edges from returning to a directory at the same moment.
func newBackoff(poll time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = min(time.Second, poll)
	b.MaxInterval = max(time.Minute, poll)
	b.Multiplier = 1.7
	b.RandomizationFactor = 0.3
	return b
}

// nextPause returns how long to wait after a pass.
func (m *Mirror) nextPause(err error, failures *backoff.ExponentialBackOff) time.Duration {
	switch {
	case err == nil:
		failures.Reset()
		return m.config.Poll
	case errors.Is(err, directory.ErrCredentials):
		if still := m.gate.rejection(&m.binder, m.config.Secret(), m.config.Now()); still != nil {
			return still.Until.Sub(m.config.Now())
		}
		return 0 // the credentials have changed meanwhile
	case errors.Is(err, directory.ErrChangesHidden): // each attempt reads thousands of objects from each controller
		return max(m.config.Poll, usnCheckInterval)
	case errors.Is(err, directory.ErrSecret):
		m.config.Log.Error("no usable password or keytab; not binding until its file changes", "error", err)
		return m.config.RejectedBindWait
	}
	return failures.NextBackOff()
}

// secretCheckInterval is the interval between checks of Secret.
const secretCheckInterval = time.Second

// waitForNext waits until the next pass is due, after a pass that started at began and ended with err. It
// reports false if ctx ended first. A notification shortens the wait unless there was an error. If
// needsNewSecret(err) is true, a new secret ends the wait.
func (m *Mirror) waitForNext(ctx context.Context, began time.Time, pause time.Duration, err error, secret string) bool {
	due := time.Now().Add(pause)
	m.updateStatus(func(s *Status) { s.NextPass = m.config.Now().Add(pause) })
	timer := time.NewTimer(pause)
	defer timer.Stop()
	changed := m.changed
	if err != nil {
		changed = nil
	}
	var look <-chan time.Time
	if needsNewSecret(err) {
		ticker := time.NewTicker(secretCheckInterval)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-m.wake:
			return true
		case <-changed:
			if soon := began.Add(m.debounce); soon.Before(due) {
				timer.Reset(time.Until(soon))
			}
		case <-look:
			if m.config.Secret() != secret {
				return true
			}
		}
	}
}
