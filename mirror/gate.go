package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rcpt-milter/directory"
)

// Gate remembers that the controllers of a directory rejected the credentials. Until the
// credentials change or a delay is over, it prevents further binds, because each rejected
// bind brings the account closer to being locked. Every connection of a directory is made
// through its gate. The zero value is open. All methods may be called concurrently.
type Gate struct {
	secondary sync.Mutex // held while connecting outside a pass, so these connections bind one by one

	mu     sync.Mutex // guards all below
	secret string     // the rejected one
	since  time.Time
	delay  time.Duration
	err    error // the rejection; nil: the gate is open

	good      string // the last secret that was accepted
	forgeable int    // rejections in a row that may be forged
}

// A rejection that an attacker can forge must not stop passes for long, and a true one must not
// lock the account. So the first such rejections in a row end after forgeableWait: one, or several
// of a secret that was accepted before. Active Directory does not count the last two passwords of
// an account as failed logons.
const (
	forgeableWait = time.Minute
	forgeableNew  = 1
	forgeableGood = 5
)

// RejectedBindError means that no bind is attempted, because an earlier one was rejected.
// It wraps the rejection.
type RejectedBindError struct {
	Until time.Time // time of the next attempt, unless the credentials change before
	Err   error
}

func (e *RejectedBindError) Error() string {
	return fmt.Sprintf("%v; no bind is tried before the password file or keytab changes, or %s",
		e.Err, e.Until.Format(time.RFC3339))
}

func (e *RejectedBindError) Unwrap() error { return e.Err }

// rejection returns the error that prevents a bind with a secret; nil if a bind is allowed.
// A clock that was set back ends the delay.
func (g *Gate) rejection(secret string, now time.Time) *RejectedBindError {
	g.mu.Lock()
	defer g.mu.Unlock()
	age := now.Sub(g.since)
	if g.err == nil || g.secret != secret || age < 0 || age >= g.delay {
		return nil
	}
	return &RejectedBindError{g.since.Add(g.delay), g.err}
}

// recordBind records the result of a bind.
func (g *Gate) recordBind(secret string, err error, now time.Time, wait time.Duration) {
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
		g.secret, g.since, g.delay, g.err = secret, now, wait, err
	case err == nil:
		g.err, g.good, g.forgeable = nil, secret, 0
	}
}

// rejected reports whether the last bind was rejected, with this secret.
func (g *Gate) rejected(secret string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err != nil && g.secret == secret
}

// Gate returns the gate, for a mirror that replaces this one.
func (m *Mirror) Gate() *Gate { return m.gate }

// checkGate returns why no pass can run now: there is no connection, and no bind is
// allowed.
func (m *Mirror) checkGate() error {
	if m.source != nil {
		return nil
	}
	if err := m.gate.rejection(m.config.Secret(), m.config.Now()); err != nil {
		return err
	}
	return nil
}

// open connects to a candidate for a pass, unless the gate is closed.
func (m *Mirror) open(ctx context.Context, c Candidate) (Source, error) {
	secret := m.config.Secret()
	if err := m.gate.rejection(secret, m.config.Now()); err != nil {
		return nil, err
	}
	source, err := c.Dial(ctx)
	m.gate.recordBind(secret, err, m.config.Now(), m.config.RejectedBindWait)
	if still := m.gate.rejection(secret, m.config.Now()); still != nil && errors.Is(err, directory.ErrCredentials) {
		m.config.Log.Error("bind rejected; not trying again until the password file changes, "+
			"to avoid locking the account", "controller", c.Name,
			"wait", still.Until.Sub(m.config.Now()).Round(time.Second), "error", err)
	}
	return source, err
}

// openSecondary connects to a candidate for other purposes than a pass.
func (m *Mirror) openSecondary(ctx context.Context, c Candidate) (Source, error) {
	m.gate.secondary.Lock()
	defer m.gate.secondary.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.open(ctx, c)
}
