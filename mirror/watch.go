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
	watchWarning = time.Hour

	// debounce is how much later than a pass the next one begins, at least, that a
	// notification asks for: in a busy directory something changes all the time.
	debounce = time.Second
)

// followed is the candidate that the last good pass went to.
type followedCandidate struct {
	Candidate
	replaced context.Context // ends when another one is followed
	replace  context.CancelFunc
}

// follow notes where the last good pass went to.
func (m *Mirror) setFollowed(c Candidate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.followed.Dial != nil && m.followed.Name == c.Name {
		return
	}
	m.followed.replace()
	m.followed = newFollowedCandidate(c)
}

func newFollowedCandidate(c Candidate) followedCandidate {
	moved, move := context.WithCancel(context.Background())
	return followedCandidate{c, moved, move}
}

func (m *Mirror) followedController() followedCandidate {
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
		at, secret := m.followedController(), m.config.Secret()
		var err error
		if at.Dial != nil {
			err = Safely(m.config.Log, "notification", func() error { return m.watchController(ctx, at, failures.Reset) })
			m.updateStatus(func(s *Status) { s.Notified = false })
		}
		switch {
		case ctx.Err() != nil:
			return
		case at.Dial == nil: // nobody is followed yet
			waitAny(ctx, at.replaced, nil)
		case at.replaced.Err() != nil:
		case needsNewSecret(err):
			m.recordWatchFailure(err)
			m.awaitSecret(ctx, secret, err)
		default:
			m.recordWatchFailure(err)
			timer := time.NewTimer(failures.NextBackOff())
			waitAny(ctx, at.replaced, timer.C)
			timer.Stop()
		}
	}
}

// linger waits for the end of one of two contexts, or of some time.
func waitAny(ctx, moved context.Context, over <-chan time.Time) {
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
	ticker := time.NewTicker(secretCheckInterval)
	defer ticker.Stop()
	unusable := errors.Is(err, directory.ErrSecret)
	for m.config.Secret() == tried && (unusable || m.gate.rejected(tried)) {
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
func (m *Mirror) watchController(ctx context.Context, at followedCandidate, works func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(at.replaced, cancel)()
	source, err := m.openSecondary(ctx, at.Candidate)
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
		m.setWarning("notification", nil, 0)
		m.updateStatus(func(s *Status) { s.Notified = true })
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

func (m *Mirror) recordWatchFailure(err error) {
	m.config.Log.Debug("notification of changes ended", "error", err)
	if m.setWarning("notification", fmt.Errorf("the controller does not tell of changes, so they are noticed by polling only: %w", err), watchWarning) {
		m.config.Log.Warn("no notification of changes, polling goes on", "error", err)
	}
}
