package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rcpt-milter/directory"
)

// Gate remembers that a controller rejected the credentials of an account. It prevents further binds until
// the credentials change or a delay has elapsed, because each rejected bind brings the account closer to
// lockout. All connections with the account go through its gate, those of several directories too. The zero value
// is open. All methods are safe for concurrent use.
type Gate struct {
	untried sync.Mutex // held while binding with a secret that was not accepted yet: one bind must do to find it wrong

	mu     sync.Mutex // guards the fields below
	secret string     // rejected secret
	by     *binder    // whose bind was rejected
	since  time.Time
	delay  time.Duration
	err    error // the rejection; nil if the gate is open

	good      string // last secret that was accepted
	forgeable int    // consecutive rejections that may be forged
}

// A binder is a mirror at its gate. Directories of several domains may use the same account name and password. If only
// one domain rejects it, the mirrors of the others must still bind. So a mirror that has itself bound with a secret
// ignores rejections of other mirrors. If the password was changed in all domains, each mirror tries the previous
// password once more; Active Directory does not count that as a failed logon.
type binder struct {
	bound string // secret of the last bind, if it was accepted; guarded by Gate.mu
}

// A rejection that an attacker can forge must not stop passes for long, and a genuine one must not lock the
// account. The first such rejections in a row therefore expire after forgeableDelay: one, or several if the
// secret was accepted before. Active Directory does not count the last two passwords of an account as failed
// logons.
const (
	forgeableDelay = time.Minute
	forgeableNew   = 1
	forgeableGood  = 5
)

// RejectedBindError reports that no bind is attempted, because an earlier one was rejected. It wraps the
// rejection.
type RejectedBindError struct {
	Until time.Time // time of the next attempt, unless the credentials change earlier
	Err   error
}

func (e *RejectedBindError) Error() string {
	return fmt.Sprintf("%v; no bind is tried before the password file or keytab changes, or %s",
		e.Err, e.Until.Format(time.RFC3339))
}

func (e *RejectedBindError) Unwrap() error { return e.Err }

// applies reports whether the last rejection is about a bind of b with a secret. The caller holds the lock.
func (g *Gate) applies(b *binder, secret string) bool {
	return g.err != nil && g.secret == secret && (g.by == b || b.bound != secret)
}

// rejection returns the error that prevents a bind with a secret; nil if a bind is allowed.
// A clock that was set back ends the delay, but not a small correction of it.
func (g *Gate) rejection(b *binder, secret string, now time.Time) *RejectedBindError {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.applies(b, secret) || isOver(g.since, now, g.delay) {
		return nil
	}
	return &RejectedBindError{g.since.Add(g.delay), g.err}
}

// recordBind records the result of a bind.
func (g *Gate) recordBind(b *binder, secret string, err error, now time.Time, delay time.Duration) {
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
			delay = min(delay, forgeableDelay)
		}
		fallthrough
	case errors.Is(err, directory.ErrCredentials):
		g.secret, g.by, g.since, g.delay, g.err, b.bound = secret, b, now, delay, err, ""
	case err == nil:
		g.err, g.good, g.forgeable, b.bound = nil, secret, 0, secret
	}
}

// rejected reports whether the last bind was rejected and used this secret, so b must not use it either.
func (g *Gate) rejected(b *binder, secret string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applies(b, secret)
}

// accepted reports whether the last accepted bind used this secret. An empty secret is none.
func (g *Gate) accepted(secret string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return secret == "" || g.good == secret
}

// Gate returns the gate, for use by a mirror that replaces this one.
func (m *Mirror) Gate() *Gate { return m.gate }

// checkGate returns why no pass can run now: there is no connection, and a bind is not permitted.
func (m *Mirror) checkGate() error {
	if m.source != nil {
		return nil
	}
	if err := m.gate.rejection(&m.binder, m.config.Secret(), m.config.Now()); err != nil {
		return err
	}
	return nil
}

// open connects to a candidate for a pass, unless the gate is closed.
func (m *Mirror) open(ctx context.Context, c Candidate) (Source, error) {
	secret := m.config.Secret()
	if !m.gate.accepted(secret) {
		m.gate.untried.Lock()
		defer m.gate.untried.Unlock()
		secret = m.config.Secret() // it may have changed meanwhile
	}
	if err := m.gate.rejection(&m.binder, secret, m.config.Now()); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	source, err := c.Dial(ctx)
	m.gate.recordBind(&m.binder, secret, err, m.config.Now(), m.config.RejectedBindWait)
	if still := m.gate.rejection(&m.binder, secret, m.config.Now()); still != nil &&
		errors.Is(err, directory.ErrCredentials) {
		m.config.Log.Error("bind rejected; not trying again until the password file changes, "+
			"to avoid locking the account", "controller", c.Name,
			"wait", still.Until.Sub(m.config.Now()).Round(time.Second), "error", err)
	}
	return source, err
}

// openSecondary connects to a candidate for purposes other than a pass.
func (m *Mirror) openSecondary(ctx context.Context, c Candidate) (Source, error) {
	m.secondary.Lock()
	defer m.secondary.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.open(ctx, c)
}
