package mirror

import (
	"testing"
	"time"

	"rcpt-milter/directory"
)

// TestForgedRejectionOfASecondConnection: while the connection for passes stays, nothing but the
// connections for confirmation and notification binds. A forged rejection of one of them must
// not keep both off longer than the gate is closed.
func TestForgedRejectionOfASecondConnection(t *testing.T) {
	const wait = 2 * time.Second
	w := newWorld(t, func(_ *world, c *Config) { c.RejectedBindWait = wait })
	m, secret := w.mirror, w.mirror.config.Secret()
	m.gate.recordBind(secret, nil, time.Now(), wait)
	m.gate.recordBind(secret, directory.ErrForgeable, time.Now(), wait)
	began := time.Now()
	m.awaitSecret(t.Context(), secret, directory.ErrForgeable)
	if took := time.Since(began); took > wait+3*secretCheckInterval {
		t.Errorf("no bind for %v, and the gate was closed for %v", took, wait)
	}
}
