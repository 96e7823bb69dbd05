package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/internal/safely"
)

// Watcher is a Source that can send change notifications.
type Watcher interface {
	Source
	// Watch calls ready as soon as it will not miss a change, and calls changed after every change, until ctx
	// ends or it fails. No other method may use the connection meanwhile.
	Watch(ctx context.Context, ready, changed func()) error
}

var _ Watcher = (*directory.Conn)(nil)

const (
	// watchRetry is the longest delay between attempts to be notified. Polling continues meanwhile, and each
	// attempt is a logon.
	watchRetry = 5 * time.Minute

	// watchWarning is how long the warnings show a failure of notifications.
	watchWarning = time.Hour

	// debounce is the shortest time between the start of a pass and the start of the next one after a
	// notification. In a busy directory, something changes all the time.
	debounce = time.Second
)

// followedCandidate is the candidate of the last good pass.
type followedCandidate struct {
	Candidate
	replaced context.Context // canceled when another candidate is followed
	replace  context.CancelFunc
}

// setFollowed records the candidate of a good pass.
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
	replaced, replace := context.WithCancel(context.Background())
	return followedCandidate{c, replaced, replace}
}

func (m *Mirror) followedController() followedCandidate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.followed
}

// watch waits for notifications of the followed controller until ctx ends. If it fails, passes still run by
// polling.
func (m *Mirror) watch(ctx context.Context) {
	failures := newBackoff(m.config.Poll)
	failures.MaxInterval = m.watchRetry()
	for ctx.Err() == nil {
		at, secret := m.followedController(), m.config.Secret()
		var err error
		if at.Dial != nil {
			err = safely.Do(m.config.Log, "notification", func() error {
				return m.watchController(ctx, at, failures.Reset)
			})
			m.updateStatus(func(s *Status) { s.Notified = false })
		}
		switch {
		case ctx.Err() != nil:
			return
		case at.Dial == nil: // none is followed yet
			waitAny(ctx, at.replaced, nil)
		case at.replaced.Err() != nil:
		case needsNewSecret(err):
			m.recordWatchFailure(err)
			m.awaitSecret(ctx, secret, err)
		default:
			m.recordWatchFailure(err)
			timer := time.NewTimer(failures.NextBackOff())
			select {
			case <-ctx.Done():
			case <-at.replaced.Done():
			case <-timer.C:
			case <-m.watchAgain:
				failures.Reset()
			}
			timer.Stop()
		}
	}
}

// waitAny waits until one of two contexts ends or the channel receives.
func waitAny(ctx, other context.Context, elapsed <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-other.Done():
	case <-elapsed:
	}
}

// awaitSecret waits after a failed bind until one of three events: the secret differs from the tried one, a
// pass has bound with a secret that was rejected, or several times the pause of the passes has elapsed. The
// passes try the same secret, and two connections that keep trying would lock the account.
func (m *Mirror) awaitSecret(ctx context.Context, tried string, err error) {
	patience := time.NewTimer(4 * m.config.RejectedBindWait)
	defer patience.Stop()
	ticker := time.NewTicker(secretCheckInterval)
	defer ticker.Stop()
	unusable := errors.Is(err, directory.ErrSecret)
	for open := 0; m.config.Secret() == tried && (unusable || m.gate.rejected(&m.binder, tried)) && open < 2; {
		select {
		case <-ctx.Done():
			return
		case <-patience.C:
			return
		case <-ticker.C:
		}
		// After a forged rejection, there may be no other bind, because passes keep their connection. A pass
		// without a connection binds as soon as the gate opens; two ticks leave it time for that.
		if open++; !errors.Is(err, directory.ErrForgeable) ||
			m.gate.rejection(&m.binder, tried, m.config.Now()) != nil {
			open = 0
		}
	}
}

// watchController waits for notifications of one controller until that fails or another controller is followed.
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
		return errors.New("this source does not support notifications")
	}
	return watcher.Watch(ctx, func() {
		works()
		m.setWarning("notification", nil, 0)
		m.updateStatus(func(s *Status) { s.Notified = true })
		m.config.Log.Info("notification of changes begins", "controller", at.Name)
		m.Wake() // covers changes before the notification started
	}, m.Wake)
}

// Wake requests a pass like a notification: no earlier than debounce after the start of the last pass and,
// after an error, not before the next pass is due. It never blocks.
func (m *Mirror) Wake() {
	select {
	case m.changed <- struct{}{}:
	default: // already requested
	}
}

func (m *Mirror) recordWatchFailure(err error) {
	m.config.Log.Debug("notification of changes ended", "error", err)
	warning := fmt.Errorf("no change notifications, so changes are seen by polling only: %w", err)
	if m.setWarning("notification", warning, watchWarning) {
		m.config.Log.Warn("no change notifications, polling continues", "error", err)
	}
}
