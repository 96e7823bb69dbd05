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
	aside sync.Mutex // held while a connection is made that is not of a pass: they try one by one

	mu     sync.Mutex // guards what follows
	secret string     // that was refused
	since  time.Time
	wait   time.Duration
	err    error // the refusal; nil: the gate is open

	good      string // the last secret that was accepted
	forgeable int    // refusals in a row that may be forged
}

// A refusal that an attacker can forge must not stop the reading for long, and a true one must not
// lock the account. So the first such refusals in a row end after forgeableWait: one, or several of
// a secret that was accepted before. Active Directory does not count the last two passwords of an
// account as failed logons.
const (
	forgeableWait = time.Minute
	forgeableNew  = 1
	forgeableGood = 5
)

// RefusedError says that no bind is tried, because one was refused. It wraps the refusal.
type RefusedError struct {
	Until time.Time // when the next one is tried, unless the credentials change before
	Err   error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v; no bind is tried before the password file or keytab changes, or %s",
		e.Err, e.Until.Format(time.RFC3339))
}

func (e *RefusedError) Unwrap() error { return e.Err }

// closed gives the refusal that still holds for a secret; nil: there is none. A clock that
// was set back ends the wait.
func (g *Gate) closed(secret string, now time.Time) *RefusedError {
	g.mu.Lock()
	defer g.mu.Unlock()
	age := now.Sub(g.since)
	if g.err == nil || g.secret != secret || age < 0 || age >= g.wait {
		return nil
	}
	return &RefusedError{g.since.Add(g.wait), g.err}
}

// tried notes how a bind ended.
func (g *Gate) tried(secret string, err error, now time.Time, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case errors.Is(err, directory.ErrForgeable):
		if g.secret != secret {
			g.forgeable = 0
		}
		limit := forgeableNew
		if g.good == secret {
			limit = forgeableGood
		}
		if g.forgeable++; g.forgeable <= limit {
			wait = min(wait, forgeableWait)
		}
		fallthrough
	case errors.Is(err, directory.ErrCredentials):
		g.secret, g.since, g.wait, g.err = secret, now, wait, err
	case err == nil:
		g.err, g.good, g.forgeable = nil, secret, 0
	}
}

// refused reports whether no bind has been good since one was refused with a secret.
func (g *Gate) refused(secret string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err != nil && g.secret == secret
}

// Gate is the one that a mirror should have that takes over from this one.
func (m *Mirror) Gate() *Gate { return m.gate }

// refusedStill is why no pass can be run now: there is no connection and must not be one.
func (m *Mirror) refusedStill() error {
	if m.source != nil {
		return nil
	}
	if err := m.gate.closed(m.config.Secret(), m.config.Now()); err != nil {
		return err
	}
	return nil
}

// open connects to a candidate for a pass, unless the credentials are known to be refused.
func (m *Mirror) open(ctx context.Context, c Candidate) (Source, error) {
	secret := m.config.Secret()
	if err := m.gate.closed(secret, m.config.Now()); err != nil {
		return nil, err
	}
	source, err := c.Dial(ctx)
	m.gate.tried(secret, err, m.config.Now(), m.config.RefusedWait)
	if still := m.gate.closed(secret, m.config.Now()); still != nil && errors.Is(err, directory.ErrCredentials) {
		m.config.Log.Error("bind refused: not trying again before the password file changes, lest the account gets locked",
			"controller", c.Name, "wait", still.Until.Sub(m.config.Now()).Round(time.Second), "error", err)
	}
	return source, err
}

// openAside connects to a candidate for something else than a pass.
func (m *Mirror) openAside(ctx context.Context, c Candidate) (Source, error) {
	m.gate.aside.Lock()
	defer m.gate.aside.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.open(ctx, c)
}
