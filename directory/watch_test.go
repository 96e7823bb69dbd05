package directory

import (
	"context"
	"errors"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// watching is a Watch under way.
type watching struct {
	t       *testing.T
	stop    context.CancelFunc
	ready   chan struct{}
	changed chan struct{}
	ended   chan error
}

// patience is how long a test waits for what is bound to happen.
const patience = 20 * time.Second

func watch(t *testing.T, c *Conn) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	w := &watching{t: t, stop: cancel, ready: make(chan struct{}, 100), changed: make(chan struct{}, 10000),
		ended: make(chan error, 1)}
	go func() {
		w.ended <- c.Watch(ctx, func() { w.ready <- struct{}{} }, func() { w.changed <- struct{}{} })
	}()
	return w
}

// await waits for an event, and fails where the watch ends before it.
func (w *watching) await(what string, c <-chan struct{}) {
	w.t.Helper()
	select {
	case <-c:
	case err := <-w.ended:
		w.t.Fatalf("waiting for %s: the watch ended: %v", what, err)
	case <-time.After(patience):
		w.t.Fatalf("no sign of %s", what)
	}
}

func (w *watching) end() error {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(patience):
		w.t.Fatal("the watch does not end")
		return nil
	}
}

func TestWatch(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	guid := add(t, d, adsim.User, "CN=Ann,CN=Users,"+base)
	c, s := connect(t, d, adsim.ServerConfig{}, nil)
	w := watch(t, c)
	w.await("registration", w.ready)
	if got := s.Stats().Notifications; got != 1 {
		t.Errorf("%d notifications when ready is called, want 1", got)
	}
	ok(t, d.Touch(guid))
	w.await("a change", w.changed)
	ok(t, d.Delete(guid))
	w.await("a deletion", w.changed)
	people(t, d, 2000) // a burst must not choke anything
	for range 2000 {
		w.await("a burst", w.changed)
	}
	w.stop()
	if err := w.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if len(w.ready) != 0 {
		t.Error("ready was called again")
	}
	_, err := c.Root(t.Context())
	wantError(t, "the connection afterwards", err, ErrUnreachable, "closed")
}

// The connection is used now and then, and a controller that went silent is noticed.
func TestWatchIsKeptAlive(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	c, s := connect(t, d, adsim.ServerConfig{}, func(c *Config) {
		c.KeepAlive, c.Lookup = time.Millisecond,
			time.Second
	})
	w := watch(t, c)
	w.await("registration", w.ready)
	for before := s.Stats().Searches; s.Stats().Searches < before+3; {
		add(t, d, adsim.Contact, "CN=c"+time.Now().Format("150405.000000000")+",CN=Users,"+base)
		w.await("a change", w.changed)
	}
	s.SetFaults(adsim.Faults{Silent: true})
	wantError(t, "a silent controller", w.end(), ErrTimeout, "in time")
}

func TestWatchFails(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after func(s *adsim.Server, c *Conn)
		kind          error
		words         string
	}{
		"refused": {before: func(s *adsim.Server, _ *Conn) { s.SetFaults(adsim.Faults{NotifyResult: 53}) },
			kind: ErrRefused, words: "unwilling"},
		"not known": {before: func(s *adsim.Server, _ *Conn) { s.SetFaults(adsim.Faults{NotifyResult: 12}) },
			kind: ErrRefused, words: "lacks a control"},
		"cut": {after: func(s *adsim.Server, _ *Conn) { s.CutConnections() }, kind: ErrUnreachable,
			words: "lost"},
		"down":         {after: func(s *adsim.Server, _ *Conn) { s.Down() }, kind: ErrUnreachable, words: "lost"},
		"closed by us": {after: func(_ *adsim.Server, c *Conn) { c.Close() }, kind: ErrUnreachable, words: "closed"},
		"closed before": {before: func(_ *adsim.Server, c *Conn) { c.Close() }, kind: ErrUnreachable,
			words: "closed"},
		"silent at first": {before: func(s *adsim.Server, _ *Conn) { s.SetFaults(adsim.Faults{Silent: true}) },
			kind: ErrTimeout, words: "in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := connect(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{},
				func(c *Config) { c.Lookup = time.Second })
			if tc.before != nil {
				tc.before(s, c)
			}
			w := watch(t, c)
			if tc.after != nil {
				w.await("registration", w.ready)
				tc.after(s, c)
			}
			wantError(t, name, w.end(), tc.kind, tc.words)
		})
	}
}
