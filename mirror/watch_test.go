package mirror

import (
	"errors"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// notified lets passes run until notifications are active, or inactive.
func (w *world) notified(results <-chan PassResult, want bool) {
	w.t.Helper()
	for w.mirror.Status().Notified != want {
		next(w.t, results)
	}
}

func TestNotificationWakes(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) { c.Poll, c.Notify, results = time.Hour, true, passes(c) })
	w.mirror.debounce = 0
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	if r := next(t, results); r.Err != nil || r.Info.Kind != store.Full {
		t.Fatalf("first pass: %+v", r)
	}
	// Changes before the registration are read once it is active.
	if r := next(t, results); r.Err != nil || r.Info.Kind != store.Incremental || !w.mirror.Status().Notified {
		t.Errorf("pass after the registration: %+v, notified %v", r, w.mirror.Status().Notified)
	}
	bob := w.user("Bob", "bob@corp.example")
	for added := 0; added == 0; {
		r := next(t, results)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		added = r.Info.Added
	}
	w.wantEqual()
	w.must(w.d.Delete(bob))
	for removed := 0; removed == 0; {
		removed = next(t, results).Info.Removed
	}
	w.wantEqual()
	stop()
	if w.mirror.Status().Notified {
		t.Error("status says notified after the end")
	}
}

// TestNotificationIsDebounced checks that passes keep a minimum distance, however many changes there are.
func TestNotificationIsDebounced(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) { c.Poll, c.Notify, results = 24*time.Hour, true, passes(c) })
	w.mirror.debounce = time.Hour
	ann := w.user("Ann", "ann@corp.example")
	stop := w.run()
	defer stop()
	next(t, results)
	for w.server.Stats().Notifications == 0 { // the registration may change the order of events
		next(t, w.mirror.Sync(false))
		next(t, results)
	}
	for range 100 {
		w.must(w.d.Touch(ann))
	}
	next(t, w.mirror.Sync(false))
	next(t, results)
	if len(results) != 0 {
		t.Errorf("%d passes that nobody asked for", len(results))
	}
}

func TestNotificationComesBack(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) { c.Poll, c.Notify, results = 5*time.Millisecond, true, passes(c) })
	w.user("Ann", "ann@corp.example")
	w.server.SetFaults(adsim.Faults{NotifyResult: 53})
	stop := w.run()
	defer stop()
	// The registration is rejected: polling continues, with a warning.
	for len(w.mirror.Status().Warnings) == 0 {
		if r := next(t, results); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if w.mirror.Status().Notified {
		t.Error("status says notified")
	}
	w.server.SetFaults(adsim.Faults{})
	w.notified(results, true)
	if got := w.mirror.Status().Warnings; len(got) != 0 {
		t.Errorf("warnings %q while it works", got)
	}
	// The connection is lost and established again.
	w.server.SetFaults(adsim.Faults{NotifyResult: 53})
	w.server.CutConnections()
	w.notified(results, false)
	w.server.SetFaults(adsim.Faults{})
	w.notified(results, true)
}

// TestNotificationFollowsTheController checks that notifications come from the followed controller.
func TestNotificationFollowsTheController(t *testing.T) {
	var results <-chan PassResult
	var d2 *adsim.Directory
	var second *adsim.Server
	w := newWorld(t, func(w *world, c *Config) {
		d2, second = w.twin()
		c.Candidates = append(c.Candidates, w.candidate(second))
		c.Poll, c.Notify, results = 5*time.Millisecond, true, passes(c)
	})
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	defer stop()
	w.notified(results, true)
	d2.Restore(w.d.Snapshot())
	d2.NewInvocationID()
	w.server.Down()
	for second.Stats().Notifications == 0 {
		next(t, results)
	}
	w.must(w.server.Up())
	w.notified(results, true)
	if got := w.server.Stats().Notifications; got != 0 {
		t.Errorf("%d notifications at the controller that is not followed", got)
	}
}

// TestNotificationWithAWrongPassword: two connections with a wrong password would lock an account twice as fast
// as one.
func TestNotificationWithAWrongPassword(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) {
		c.Poll, c.Notify, results = time.Millisecond, true, passes(c)
		c.RejectedBindWait = time.Hour
	})
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	defer stop()
	w.notified(results, true)
	w.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	w.server.CutConnections()
	for {
		if r := next(t, results); errors.Is(r.Err, directory.ErrCredentials) {
			break
		}
	}
	if r := next(t, w.mirror.Sync(false)); !errors.Is(r.Err, directory.ErrCredentials) {
		t.Errorf("asked for a pass with a wrong password: %v", r.Err)
	}
	if got := w.server.Stats().FailedBinds; got > 3 {
		t.Errorf("%d binds with a wrong password, want one for each pass and one for the notification", got)
	}
}
