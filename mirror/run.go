package mirror

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// request is what somebody wants of the next pass.
type request struct {
	full    bool
	done    []chan PassResult
	actions []func(error) // on the store, between passes; with an error: not done
}

// ErrStopped is the answer to what is asked of a mirror that does not run any more.
var ErrStopped = errors.New("the directory is no longer followed in this way, because the configuration has changed or the daemon stops; ask again")

// refuse answers all who ask.
func (r *request) fail(err error) {
	for _, done := range r.done {
		done <- PassResult{Err: err}
	}
	for _, act := range r.actions {
		act(err)
	}
}

// Sync asks for a pass now, and gives a channel on which the result of one that began
// after the call arrives. The channel has room; nobody has to wait.
func (m *Mirror) Sync(full bool) <-chan PassResult {
	done := make(chan PassResult, 1)
	m.submit(func(r *request) {
		r.full = r.full || full
		r.done = append(r.done, done)
	})
	return done
}

// ask adds to what is wanted, and wakes Run.
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
	default: // it is awake already
	}
}

// Approve releases the removals that passes up to a number held back, between two
// passes; 0 stands for the last one that has ended. What a pass that is under way will
// hold back nobody has seen yet, so that nobody can mean it.
func (m *Mirror) Approve(ctx context.Context, upTo uint64) (store.PassInfo, error) {
	upTo = approvableUpTo(m.config.Store.Directory(m.config.Name), upTo)
	return runBetweenPasses(ctx, m, func() (store.PassInfo, error) {
		info, err := m.config.Store.Approve(m.config.Name, upTo, m.config.Now())
		m.config.Log.Info("held removals approved", "pass", info.Number, "removed", info.Removed, "error", err)
		return info, err
	})
}

// seen is the last pass whose removals somebody may approve who names a pass, or none.
func approvableUpTo(stored store.Directory, upTo uint64) uint64 {
	if last := stored.Newest().Number; upTo == 0 || upTo > last {
		return last
	}
	return upTo
}

// Discard forgets them: the addresses stay until a full pass misses them again. It
// gives the number of objects that keep their addresses.
func (m *Mirror) Discard(ctx context.Context) (int, error) {
	return runBetweenPasses(ctx, m, func() (int, error) {
		objects, err := m.config.Store.Discard(m.config.Name, m.config.Now())
		m.config.Log.Info("held removals discarded", "objects", objects, "error", err)
		return objects, err
	})
}

// between does something to the store when no pass is under way, which Run must see to.
func runBetweenPasses[T any](ctx context.Context, m *Mirror, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	m.submit(func(r *request) {
		r.actions = append(r.actions, func(refused error) {
			if refused != nil {
				done <- result{err: refused}
				return
			}
			var r result
			r.err = Safely(m.config.Log, "command", func() (err error) {
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
		var none T
		return none, ctx.Err()
	}
}

func (m *Mirror) takeRequest() request {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.pending
	m.pending = request{}
	return r
}

// Run runs passes until the context ends: one every Poll, sooner when Sync asks, later
// after errors. It gives nil then; a pass under way is broken off.
func (m *Mirror) Run(ctx context.Context) error {
	defer m.hangUp()
	m.start()
	defer m.stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	if m.config.Notify {
		watching.Go(func() {
			_ = Safely(m.config.Log, "notification", func() error { m.watch(ctx); return nil })
		})
	}
	failures := newBackoff(m.config.Poll)
	for {
		began := time.Now()
		asked, secret := m.takeRequest(), m.config.Secret()
		for _, act := range asked.actions {
			act(nil)
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

// end answers those who still wait when Run ends, and whoever comes later.
func (m *Mirror) stop() {
	m.mu.Lock()
	left := m.pending
	m.pending, m.stopped = request{}, true
	m.mu.Unlock()
	left.fail(ErrStopped)
}

// newBackoff spaces attempts after failures, from about a second (or the poll interval,
// where that is shorter) to a minute, with jitter, so that many edges do not come back
// to a directory at the same moment.
func newBackoff(poll time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = min(time.Second, poll)
	b.MaxInterval = max(time.Minute, poll)
	b.Multiplier = 1.7
	b.RandomizationFactor = 0.3
	return b
}

// pause is how long to wait after a pass.
func (m *Mirror) nextPause(err error, failures *backoff.ExponentialBackOff) time.Duration {
	switch {
	case err == nil:
		failures.Reset()
		return m.config.Poll
	case errors.Is(err, directory.ErrCredentials):
		if still := m.gate.rejection(m.config.Secret(), m.config.Now()); still != nil {
			return still.Until.Sub(m.config.Now())
		}
		return 0 // they have changed already
	case errors.Is(err, directory.ErrSecret):
		m.config.Log.Error("no usable password or keytab, so no bind is tried before its file changes", "error", err)
		return m.config.RejectedBindWait
	}
	return failures.NextBackOff()
}

// secretCheck is how often a changed password file is looked for.
const secretCheckInterval = time.Second

// wait waits for the next pass after one that began at some time and ended with err;
// false when the context ended first. A notification shortens the wait, but not after
// an error. Where awaitsSecret holds, a secret that is not the one tried ends it.
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
