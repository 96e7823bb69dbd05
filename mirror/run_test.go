package mirror

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// run starts Run, and returns a function that stops it and waits for its end.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	w.mirror.start() // after a previous run: requests before Run starts must not fail
	go func() { done <- w.mirror.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
}

// passes sends the results of a mirror's passes to a channel.
func passes(c *Config) <-chan PassResult {
	results := make(chan PassResult, 100)
	c.Observe.Pass = func(r PassResult) { results <- r }
	return results
}

func next(t *testing.T, results <-chan PassResult) PassResult {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no pass within 20 s")
		return PassResult{}
	}
}

func TestRunPollsAndSyncs(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) { c.Poll, results = time.Hour, passes(c) })
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	if r := next(t, results); r.Err != nil || r.Info.Kind != store.Full {
		t.Fatalf("first pass: %+v", r)
	}
	w.user("Bob", "bob@corp.example")
	if r := next(t, w.mirror.Sync(false)); r.Err != nil || r.Info.Kind != store.Incremental {
		t.Errorf("sync: %+v", r)
	}
	w.wantEqual()
	if r := next(t, w.mirror.Sync(true)); r.Err != nil || r.Info.Kind != store.Full {
		t.Errorf("full sync: %+v", r)
	}
	if s := w.mirror.Status(); s.NextPass.IsZero() {
		t.Error("status does not say when the next pass is")
	}
	stop()
}

func TestRunKeepsPolling(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) { c.Poll, results = time.Millisecond, passes(c) })
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	defer stop()
	for range 3 {
		if r := next(t, results); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

func TestRunRecovers(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) { c.Poll, results = time.Millisecond, passes(c) })
	w.user("Ann", "ann@corp.example")
	w.server.Down()
	stop := w.run()
	defer stop()
	if r := next(t, results); !errors.Is(r.Err, directory.ErrUnreachable) {
		t.Fatalf("without a controller: %v", r.Err)
	}
	w.must(w.server.Up())
	for {
		if r := next(t, results); r.Err == nil {
			break
		}
	}
	w.wantEqual()
}

func TestRefusedBindWaitsForANewSecret(t *testing.T) {
	var results <-chan PassResult
	var secret atomic.Value
	secret.Store("old")
	w := newWorld(t, func(w *world, c *Config) {
		c.Poll, c.RejectedBindWait, results = time.Millisecond, time.Hour, passes(c)
		c.Secret = func() string { return secret.Load().(string) }
		w.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	})
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	defer stop()
	if r := next(t, results); !errors.Is(r.Err, directory.ErrCredentials) {
		t.Fatalf("with a wrong password: %v", r.Err)
	}
	w.server.SetFaults(adsim.Faults{})
	secret.Store("new")
	if r := next(t, results); r.Err != nil {
		t.Fatalf("with the right one: %v", r.Err)
	}
	w.wantEqual()
}

func TestStoppingAnswersThoseWhoWait(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Poll = time.Hour })
	w.user("Ann", "ann@corp.example")
	reached := make(chan struct{})
	var once atomic.Bool
	w.server.SetFaults(adsim.Faults{SilentSearch: true, BeforePage: func(adsim.Search) {
		if !once.Swap(true) {
			close(reached)
		}
	}})
	done := w.mirror.Sync(false)
	stop := w.run()
	select {
	case <-reached:
	case r := <-done:
		t.Fatalf("the pass ended: %v", r.Err)
	case <-time.After(20 * time.Second):
		t.Fatal("the pass never asked")
	}
	asked := make(chan error, 1)
	go func() {
		_, err := w.mirror.Approve(context.Background(), 0)
		asked <- err
	}()
	stop()
	if r := next(t, done); r.Err == nil {
		t.Error("a pass that was broken off counts as good")
	}
	if err := <-asked; !errors.Is(err, ErrStopped) {
		t.Errorf("Approve at the end: %v, want %v", err, ErrStopped)
	}
	if r := next(t, w.mirror.Sync(true)); !errors.Is(r.Err, ErrStopped) {
		t.Errorf("Sync after the end: %v, want %v", r.Err, ErrStopped)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	for name, c := range map[string]Config{
		"no name":       {Candidates: make([]Candidate, 1), Poll: 1, Full: 1},
		"no controller": {Name: "x", Poll: 1, Full: 1},
		"both ways":     {Name: "x", Candidates: make([]Candidate, 1), Discover: new(dns).discover, Poll: 1, Full: 1},
		"no poll":       {Name: "x", Candidates: make([]Candidate, 1), Full: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(c); err == nil {
				t.Errorf("%s is accepted", name)
			}
		})
	}
}

// TestRetry checks that a waiting mirror runs a pass.
func TestRetry(t *testing.T) {
	var results <-chan PassResult
	w := newWorld(t, func(w *world, c *Config) { c.Poll, results = time.Hour, passes(c) })
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	defer stop()
	next(t, results)
	w.user("Bob", "bob@corp.example")
	w.mirror.Retry()
	if r := next(t, results); r.Err != nil || r.Info.Added != 1 {
		t.Errorf("pass: %+v", r)
	}
}
