package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/directory"
)

// Watcher is a Source that can tell when something changes.
type Watcher interface {
	Source
	// Watch calls changed at every change until the context ends or it fails, and ready
	// once no change can be missed any more. It takes the connection for itself.
	Watch(ctx context.Context, ready, changed func()) error
}

var _ Watcher = (*directory.Conn)(nil)

const (
	// watchRetry is the longest time between two attempts to be notified: polling goes
	// on meanwhile, and each attempt is a logon.
	watchRetry = 5 * time.Minute

	// warnWatch is how long a notification that does not work stays among the warnings.
	warnWatch = time.Hour

	// debounce is how much later than a pass the next one begins, at least, that a
	// notification asks for: in a busy directory something changes all the time.
	debounce = time.Second
)

// followed is the candidate that the last good pass went to.
type followed struct {
	Candidate
	moved context.Context // ends when another one is followed
	move  context.CancelFunc
}

// follow notes where the last good pass went to.
func (m *Mirror) follow(c Candidate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.followed.Dial != nil && m.followed.Name == c.Name {
		return
	}
	m.followed.move()
	m.followed = newFollowed(c)
}

func newFollowed(c Candidate) followed {
	moved, move := context.WithCancel(context.Background())
	return followed{c, moved, move}
}

func (m *Mirror) whom() followed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.followed
}

// watch has the controller that is followed wake us up when something changes, until
// the context ends. It never ends by itself and is never needed: passes come anyway.
func (m *Mirror) watch(ctx context.Context) {
	failures := newBackoff(m.config.Poll)
	failures.MaxInterval = watchRetry
	for ctx.Err() == nil {
		at, secret := m.whom(), m.config.Secret()
		var err error
		if at.Dial != nil {
			err = Safely(m.config.Log, "notification", func() error { return m.watchOne(ctx, at, failures.Reset) })
			m.update(func(s *Status) { s.Notified = false })
		}
		switch {
		case ctx.Err() != nil:
			return
		case at.Dial == nil: // nobody is followed yet
			linger(ctx, at.moved, nil)
		case at.moved.Err() != nil:
		case awaitsSecret(err):
			m.watchFailed(err)
			m.awaitSecret(ctx, secret, err)
		default:
			m.watchFailed(err)
			timer := time.NewTimer(failures.NextBackOff())
			linger(ctx, at.moved, timer.C)
			timer.Stop()
		}
	}
}

// linger waits for the end of one of two contexts, or of some time.
func linger(ctx, moved context.Context, over <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-moved.Done():
	case <-over:
	}
}

// awaitSecret waits after an error of a bind: until there is another secret than the one
// that was tried, until a pass could bind with a refused one, or for several times as long
// as the passes do, which try the same one. Two that press on would lock the account.
func (m *Mirror) awaitSecret(ctx context.Context, tried string, err error) {
	patience := time.NewTimer(4 * m.config.RejectedBindWait)
	defer patience.Stop()
	ticker := time.NewTicker(secretCheck)
	defer ticker.Stop()
	unusable := errors.Is(err, directory.ErrSecret)
	for m.config.Secret() == tried && (unusable || m.gate.refused(tried)) {
		select {
		case <-ctx.Done():
			return
		case <-patience.C:
			return
		case <-ticker.C:
		}
	}
}

// watchOne is notified by one controller until that fails or another one is followed.
func (m *Mirror) watchOne(ctx context.Context, at followed, works func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(at.moved, cancel)()
	source, err := m.openAside(ctx, at.Candidate)
	if err != nil {
		return err
	}
	watcher, ok := source.(Watcher)
	if !ok {
		source.Close()
		return errors.New("this kind of source cannot tell of changes")
	}
	return watcher.Watch(ctx, func() {
		works()
		m.warn("notification", nil, 0)
		m.update(func(s *Status) { s.Notified = true })
		m.config.Log.Info("notification of changes begins", "controller", at.Name)
		m.Wake() // what changed before
	}, m.Wake)
}

// Wake asks for a pass soon, as a notification does: a moment after the last one at the
// earliest, and after an error not before it is due. It never blocks.
func (m *Mirror) Wake() {
	select {
	case m.changed <- struct{}{}:
	default: // it was asked for already
	}
}

func (m *Mirror) watchFailed(err error) {
	m.config.Log.Debug("notification of changes ended", "error", err)
	if m.warn("notification", fmt.Errorf("the controller does not tell of changes, so they are noticed by polling only: %w", err), warnWatch) {
		m.config.Log.Warn("no notification of changes, polling goes on", "error", err)
	}
}
