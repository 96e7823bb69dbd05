package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rcpt-milter/directory"
)

// Gate remembers that the controllers of a directory refused our credentials: until these
// change, or a wait is over, nothing binds, because each further refusal brings the
// account nearer to being locked. Every connection of a directory is made through it. The
// zero value is open. All methods may be called concurrently.
type Gate struct {
	secondary sync.Mutex // held while a connection is made that is not of a pass: they try one by one

	mu     sync.Mutex // guards what follows
	secret string     // that was refused
	since  time.Time
	delay  time.Duration
	err    error // the refusal; nil: the gate is open
}

// RejectedBindError says that no bind is tried, because one was refused. It wraps the refusal.
type RejectedBindError struct {
	Until time.Time // when the next one is tried, unless the credentials change before
	Err   error
}

func (e *RejectedBindError) Error() string {
	return fmt.Sprintf("%v; no bind is tried before the password file or keytab changes, or %s",
		e.Err, e.Until.Format(time.RFC3339))
}

func (e *RejectedBindError) Unwrap() error { return e.Err }

// closed gives the refusal that still holds for a secret; nil: there is none. A clock that
// was set back ends the wait.
func (g *Gate) rejection(secret string, now time.Time) *RejectedBindError {
	g.mu.Lock()
	defer g.mu.Unlock()
	age := now.Sub(g.since)
	if g.err == nil || g.secret != secret || age < 0 || age >= g.delay {
		return nil
	}
	return &RejectedBindError{g.since.Add(g.delay), g.err}
}

// tried notes how a bind ended.
func (g *Gate) recordBind(secret string, err error, now time.Time, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if errors.Is(err, directory.ErrCredentials) {
		g.secret, g.since, g.delay, g.err = secret, now, wait, err
	} else if err == nil {
		g.err = nil
	}
}

// refused reports whether no bind has been good since one was refused with a secret.
func (g *Gate) rejected(secret string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err != nil && g.secret == secret
}

// Gate is the one that a mirror should have that takes over from this one.
func (m *Mirror) Gate() *Gate { return m.gate }

// refusedStill is why no pass can be run now: there is no connection and must not be one.
func (m *Mirror) checkGate() error {
	if m.source != nil {
		return nil
	}
	if err := m.gate.rejection(m.config.Secret(), m.config.Now()); err != nil {
		return err
	}
	return nil
}

// open connects to a candidate for a pass, unless the credentials are known to be refused.
func (m *Mirror) open(ctx context.Context, c Candidate) (Source, error) {
	secret := m.config.Secret()
	if err := m.gate.rejection(secret, m.config.Now()); err != nil {
		return nil, err
	}
	source, err := c.Dial(ctx)
	m.gate.recordBind(secret, err, m.config.Now(), m.config.RejectedBindWait)
	if errors.Is(err, directory.ErrCredentials) {
		m.config.Log.Error("bind refused: not trying again before the password file changes, lest the account gets locked",
			"controller", c.Name, "wait", m.config.RejectedBindWait, "error", err)
	}
	return source, err
}

// openAside connects to a candidate for something else than a pass.
func (m *Mirror) openSecondary(ctx context.Context, c Candidate) (Source, error) {
	m.gate.secondary.Lock()
	defer m.gate.secondary.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.open(ctx, c)
}
