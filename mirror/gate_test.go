package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// rejectedWorld runs a mirror whose bind was rejected once, and returns its results.
func rejectedWorld(t *testing.T, change func(*world, *Config)) (w *world, secret *atomic.Pointer[string],
	results <-chan PassResult) {
	t.Helper()
	secret = new(atomic.Pointer[string])
	old := "old"
	secret.Store(&old)
	w = newWorld(t, func(w *world, c *Config) {
		c.Poll, c.Secret = 20*time.Millisecond, func() string { return *secret.Load() }
		if change != nil {
			change(w, c)
		}
		results = passes(c)
	})
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	<-results
	w.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	w.server.CutConnections()
	t.Cleanup(w.run())
	for {
		if r := next(t, results); errors.Is(r.Err, directory.ErrCredentials) {
			break
		}
	}
	return w, secret, results
}

// TestNoCommandBindsAfterARefusal checks that no operator command causes a failed logon.
func TestNoCommandBindsAfterARefusal(t *testing.T) {
	w, secret, results := rejectedWorld(t, nil)
	before := w.server.Stats().FailedBinds
	for name, command := range map[string]func() error{
		"discard":      func() error { _, err := w.mirror.Discard(t.Context()); return err },
		"approve":      func() error { _, err := w.mirror.Approve(t.Context(), 0); return err },
		"notification": func() error { w.mirror.Wake(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				if err := command(); err != nil {
					t.Errorf("%v", err)
				}
			}
		})
	}
	for name, command := range map[string]func() error{
		"sync": func() error { return next(t, w.mirror.Sync(false)).Err },
		"full": func() error { return next(t, w.mirror.Sync(true)).Err },
		"compare": func() error {
			_, err := w.mirror.Compare(t.Context(), func(int) {}, func(Difference) error { return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				err := command()
				var refused *RejectedBindError
				if !errors.As(err, &refused) || !errors.Is(err, directory.ErrCredentials) ||
					!strings.Contains(err.Error(), refused.Until.Format(time.RFC3339)) ||
					!strings.Contains(err.Error(), "password") {
					t.Errorf("%v", err)
				} else if wait := refused.Until.Sub(w.now()); wait > rejectedBindWait ||
					wait < rejectedBindWait-time.Minute {
					t.Errorf("it is tried again in %v", wait)
				}
			}
		})
	}
	if more := w.server.Stats().FailedBinds - before; more > 0 || before != 1 {
		t.Errorf("%d failed binds before, and %d more by commands", before, more)
	}
	if len(results) > 0 {
		t.Errorf("%d passes that could not be run count as failed", len(results))
	}
	if next := w.mirror.Status().NextPass; next.Sub(w.now()) < rejectedBindWait-time.Minute {
		t.Errorf("the next pass is at %v", next)
	}
	w.server.SetFaults(adsim.Faults{})
	fresh := "new"
	secret.Store(&fresh)
	if r := next(t, results); r.Err != nil {
		t.Errorf("with a new password: %v", r.Err)
	}
}

// TestRefusedBindIsTriedAgain checks that it is retried after the delay, by any clock.
func TestRefusedBindIsTriedAgain(t *testing.T) {
	for name, step := range map[string]time.Duration{"after the wait": rejectedBindWait + time.Second,
		"the clock was set back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.user("Ann", "ann@corp.example")
			w.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
			for range 3 {
				if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, directory.ErrCredentials) {
					t.Fatal(r.Err)
				}
			}
			if n := w.server.Stats().FailedBinds; n != 1 {
				t.Errorf("%d binds", n)
			}
			w.advance(step)
			w.server.SetFaults(adsim.Faults{})
			w.pass(store.Full)
		})
	}
}

// TestOneGateForAllConnections checks that notification, confirmation and passes share a
// rejection.
func TestOneGateForAllConnections(t *testing.T) {
	log := newTestLog()
	w := newWorld(t, func(_ *world, c *Config) {
		c.Poll, c.Notify, c.Secret = time.Millisecond, true, func() string { return "old" }
		c.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	w.user("Ann", "ann@corp.example")
	c, err := NewConfirmer(ConfirmConfig{Directories: []ConfirmDirectory{{Mirror: w.mirror}}, Timeout: time.Second,
		PerSecond: 1000})
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	stop := w.run()
	defer func() { cancel(); <-done; stop() }()
	log.await(t, func(text string) bool {
		return strings.Contains(text, canConfirm) && strings.Contains(text, "notification of changes begins")
	})
	if n := w.server.Stats().Binds; n != 3 {
		t.Fatalf("%d binds by three connections", n)
	}
	w.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	w.server.CutConnections()
	nobody, _ := address.Parse("nobody@corp.example")
	for range 50 {
		next(t, w.mirror.Sync(true))
		_, _ = c.Confirm(t.Context(), nobody, false)
		w.mirror.Wake()
	}
	if n := w.server.Stats().FailedBinds; n > 2 { // a pass and another one at the same moment
		t.Errorf("%d failed binds by three connections", n)
	}
}

// TestGateIsHandedOver checks that a mirror that takes over does not repeat a rejected
// bind.
func TestGateIsHandedOver(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) { c.Secret = func() string { return "old" } })
	w.user("Ann", "ann@corp.example")
	w.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	w.mirror.Pass(t.Context(), false)
	w.config.Gate = w.mirror.Gate()
	w.restart()
	if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, directory.ErrCredentials) {
		t.Error(r.Err)
	}
	if n := w.server.Stats().FailedBinds; n != 1 {
		t.Errorf("%d failed binds", n)
	}
}

// TestForgeableRefusals: a forged Kerberos error does not stop the reading for long, and a true one
// does not lock the account.
func TestForgeableRefusals(t *testing.T) {
	forged := fmt.Errorf("Kerberos error 24: %w", directory.ErrForgeable)
	now := time.Unix(1e9, 0)
	for name, tc := range map[string]struct {
		before error // of a bind with the same secret; errNone: there was none
		short  int
	}{
		"never accepted":            {errNone, 1},
		"accepted before":           {nil, 5},
		"rejected by the directory": {directory.ErrCredentials, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Gate{}
			if tc.before != errNone {
				g.recordBind("key", tc.before, now, rejectedBindWait)
			}
			for n := 1; n <= tc.short+2; n++ {
				g.recordBind("key", forged, now, rejectedBindWait)
				want := rejectedBindWait
				if n <= tc.short {
					want = time.Minute
				}
				if still := g.rejection("key", now); still == nil || still.Until.Sub(now) != want {
					t.Errorf("rejection %d: %v, want a wait of %v", n, still, want)
				}
			}
			g.recordBind("key", nil, now, rejectedBindWait)
			g.recordBind("key", forged, now, rejectedBindWait)
			if still := g.rejection("key", now); still == nil || still.Until.Sub(now) != time.Minute {
				t.Errorf("after a good bind: %v", still)
			}
			g.recordBind("another key", forged, now, rejectedBindWait)
			if still := g.rejection("another key", now); still == nil || still.Until.Sub(now) != time.Minute {
				t.Errorf("another key: %v", still)
			}
			if g.rejection("key", now) != nil {
				t.Error("the former key is rejected as well")
			}
		})
	}
}

// errNone means that there was no bind.
var errNone = errors.New("none")

// TestForgedRejectionOfASecondConnection checks that a forged rejection of a connection for
// confirmation or notification keeps both off only while the gate is closed. While passes keep
// their own connection, no other bind opens the gate again.
func TestForgedRejectionOfASecondConnection(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) { c.RejectedBindWait = time.Hour })
	m, secret := w.mirror, w.mirror.config.Secret()
	m.gate.recordBind(secret, nil, w.now(), time.Hour)
	m.gate.recordBind(secret, directory.ErrForgeable, w.now(), time.Hour)
	w.advance(forgeableDelay)
	ctx, cancel := context.WithTimeout(t.Context(), forAnswer)
	defer cancel()
	m.awaitSecret(ctx, secret, directory.ErrForgeable)
	if ctx.Err() != nil {
		t.Errorf("no bind within %v after the gate has opened", forAnswer)
	}
}
