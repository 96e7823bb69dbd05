package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
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

// TestRefusedBindIsTriedAgain checks that a rejected bind is retried after the delay, on any clock.
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

// TestOneGateForAllConnections checks that notification, confirmation and passes share the knowledge of a
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
	if n := w.server.Stats().FailedBinds; n > 2 { // a pass and another connection may bind at the same moment
		t.Errorf("%d failed binds by three connections", n)
	}
}

// TestGateIsHandedOver checks that a mirror that replaces another one does not repeat a rejected bind.
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

// TestForgeableRefusals checks that a forged Kerberos error does not stop passes for long, and that a genuine
// one does not lock the account.
func TestForgeableRefusals(t *testing.T) {
	forged := fmt.Errorf("Kerberos error 24: %w", directory.ErrForgeable)
	now := time.Unix(1e9, 0)
	for name, tc := range map[string]struct {
		before error // result of a previous bind with the same secret; errNone means none
		short  int
	}{
		"never accepted":            {errNone, 1},
		"accepted before":           {nil, 5},
		"rejected by the directory": {directory.ErrCredentials, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Gate{}
			if tc.before != errNone {
				g.recordBind(&oneMirror, "key", tc.before, now, rejectedBindWait)
			}
			for n := 1; n <= tc.short+2; n++ {
				g.recordBind(&oneMirror, "key", forged, now, rejectedBindWait)
				want := rejectedBindWait
				if n <= tc.short {
					want = time.Minute
				}
				if still := g.rejection(&oneMirror, "key", now); still == nil || still.Until.Sub(now) != want {
					t.Errorf("rejection %d: %v, want a wait of %v", n, still, want)
				}
			}
			g.recordBind(&oneMirror, "key", nil, now, rejectedBindWait)
			g.recordBind(&oneMirror, "key", forged, now, rejectedBindWait)
			if still := g.rejection(&oneMirror, "key", now); still == nil || still.Until.Sub(now) != time.Minute {
				t.Errorf("after a good bind: %v", still)
			}
			g.recordBind(&oneMirror, "another key", forged, now, rejectedBindWait)
			if still := g.rejection(&oneMirror, "another key", now); still == nil ||
				still.Until.Sub(now) != time.Minute {
				t.Errorf("another key: %v", still)
			}
			if g.rejection(&oneMirror, "key", now) != nil {
				t.Error("the former key is rejected as well")
			}
		})
	}
}

// errNone stands for no bind.
var errNone = errors.New("none")

// TestForgedRejectionOfASecondConnection checks that a forged rejection of a connection for confirmation or
// notification disables both only while the gate is closed. Passes keep their own connection, so no other bind
// would open the gate again.
func TestForgedRejectionOfASecondConnection(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) { c.RejectedBindWait = time.Hour })
	m, secret := w.mirror, w.mirror.config.Secret()
	m.gate.recordBind(&m.binder, secret, nil, w.now(), time.Hour)
	m.gate.recordBind(&m.binder, secret, directory.ErrForgeable, w.now(), time.Hour)
	w.advance(forgeableDelay)
	ctx, cancel := context.WithTimeout(t.Context(), forAnswer)
	defer cancel()
	m.awaitSecret(ctx, secret, directory.ErrForgeable)
	if ctx.Err() != nil {
		t.Errorf("no bind within %v after the gate has opened", forAnswer)
	}
}

// TestGateWhenTheClockIsSetBack: a small correction of the clock allows no bind before its time, because
// each one brings the account closer to being locked. A larger one ends the delay.
func TestGateWhenTheClockIsSetBack(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		after time.Duration // the rejection
		want  bool          // closed
	}{
		{"at once", 0, true},
		{"before the delay is over", 15*time.Minute - 1, true},
		{"when it is over", 15 * time.Minute, false},
		{"corrected by a second", -time.Second, true},
		{"corrected by as much as clocks are", -clock.Slack, true},
		{"set back", -clock.Slack - 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g Gate
			g.recordBind(&oneMirror, "secret", directory.ErrCredentials, noon, 15*time.Minute)
			if closed := g.rejection(&oneMirror, "secret", noon.Add(c.after)) != nil; closed != c.want {
				t.Errorf("closed %t, want %t", closed, c.want)
			}
		})
	}
}

// TestUntriedSecretIsTriedOnce connects several mirrors of one account at once, with a password that is rejected.
func TestUntriedSecretIsTriedOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.config.Gate, w.config.Secret = new(Gate), func() string { return "new" }
	var binds atomic.Int64
	c := Candidate{Name: "dc1", Dial: func(context.Context) (Source, error) {
		binds.Add(1)
		for range 1000 { // the others come to the gate
			runtime.Gosched()
		}
		return nil, directory.ErrCredentials
	}}
	var all sync.WaitGroup
	for range 5 {
		m, err := New(w.config)
		w.must(err)
		all.Go(func() {
			if _, err := m.open(t.Context(), c); !errors.Is(err, directory.ErrCredentials) {
				t.Errorf("open: %v", err)
			}
		})
	}
	if all.Wait(); binds.Load() != 1 {
		t.Errorf("%d binds, want 1", binds.Load())
	}
}

// oneMirror stands for the only mirror of a gate.
var oneMirror binder

// TestRejectionOfAnotherDirectory: directories with the same account name and password may be of several domains.
func TestRejectionOfAnotherDirectory(t *testing.T) {
	const secret = "secret"
	for _, c := range []struct {
		name  string
		binds []string // of A and B; a lower-case letter is a rejected bind
		want  string   // those that may bind
	}{
		{"none", nil, "AB"},
		{"A only", []string{"a"}, ""},
		{"B was accepted before", []string{"B", "a"}, "B"},
		{"B was accepted before, and A, too", []string{"A", "B", "a"}, "B"},
		{"both, one after the other", []string{"A", "B", "a", "b"}, ""},
		{"B again after A", []string{"B", "a", "B"}, "AB"},
		{"both accepted again", []string{"A", "B", "a", "b", "A"}, "AB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, all, now := new(Gate), map[string]*binder{"A": {}, "B": {}}, time.Now()
			for _, bind := range c.binds {
				var err error
				if bind == strings.ToLower(bind) {
					err = directory.ErrCredentials
				}
				g.recordBind(all[strings.ToUpper(bind)], secret, err, now, rejectedBindWait)
			}
			may := ""
			for _, name := range []string{"A", "B"} {
				open := g.rejection(all[name], secret, now) == nil
				if open == g.rejected(all[name], secret) {
					t.Errorf("%s: rejection and rejected differ", name)
				}
				if open {
					may += name
				}
			}
			if may != c.want {
				t.Errorf("may bind: %q, want %q", may, c.want)
			}
		})
	}
}
