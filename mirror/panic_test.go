package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/internal/safely"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestCompareBesideAShorterList makes the list of controllers shorter than the position of the controller that
// was used.
func TestCompareBesideAShorterList(t *testing.T) {
	var found dns
	var s2 *adsim.Server
	var d2 *adsim.Directory
	w := newWorld(t, func(w *world, c *Config) {
		d2, s2 = w.twin()
		found.list = []Candidate{w.candidate(w.server), w.candidate(s2)}
		c.Candidates, c.Discover, c.Poll = nil, found.discover, time.Hour
	})
	w.user("Ann", "ann@corp.example")
	d2.Restore(w.d.Snapshot())
	d2.NewInvocationID()
	w.server.Down()
	w.pass(store.Full)          // at dc2, the second in the list
	found.list = found.list[1:] // dc1 leaves DNS
	w.advance(2 * time.Minute)
	s2.Down()
	if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
		t.Fatal("a pass without a controller")
	}
	if r := &w.mirror.controllers; r.current >= len(r.list) || w.mirror.current().Name != s2.URL() {
		t.Fatalf("at %d of %d", r.current, len(r.list))
	}
	w.must(s2.Up())
	w.wantDifferences()
}

// TestListsOfAllLengths checks that there is a current candidate after every discovery.
func TestListsOfAllLengths(t *testing.T) {
	w := newWorld(t, nil)
	named := func(names string) (list []Candidate) {
		for _, name := range strings.Fields(names) {
			list = append(list, Candidate{Name: name})
		}
		return list
	}
	for _, c := range []struct {
		before string
		at     int
		after  string
		want   string
	}{
		{"", 0, "a", "a"}, {"a b", 1, "b", "b"}, {"a b", 1, "a", "a"}, {"a b c", 2, "c b a", "c"}, {"a b c", 2, "a b",
			"a"}, {"a", 0, "b a", "a"},
	} {
		t.Run(fmt.Sprintf("%s at %d, then %s", c.before, c.at, c.after), func(t *testing.T) {
			w.mirror.controllers = controllerList{list: named(c.before), current: c.at,
				hosts: map[string]*hostHistory{}}
			w.mirror.setControllers(named(c.after))
			if got := w.mirror.current().Name; got != c.want {
				t.Errorf("%q at %d, then %q: %s is used, want %s", c.before, c.at, c.after, got, c.want)
			}
		})
	}
}

// panickingSource panics in the armed method.
type panickingSource struct {
	Source
	armed *atomic.Pointer[string]
}

func (b panickingSource) panicIn(method string) {
	if at := b.armed.Load(); at != nil && *at == method {
		panic("index out of range, say, in " + method)
	}
}

func (b panickingSource) Root(ctx context.Context) (directory.Root, error) {
	b.panicIn("root")
	return b.Source.Root(ctx)
}

func (b panickingSource) Read(ctx context.Context, since uint64, page func([]directory.Object) error) error {
	b.panicIn("read")
	return b.Source.Read(ctx, since, func(objects []directory.Object) error {
		b.panicIn("page")
		return page(objects)
	})
}

func (b panickingSource) Find(ctx context.Context, a address.Address) ([]directory.Object, error) {
	b.panicIn("find")
	return b.Source.Find(ctx, a)
}

func (b panickingSource) Watch(ctx context.Context, ready, changed func()) error {
	b.panicIn("watch")
	return b.Source.(Watcher).Watch(ctx, ready, changed)
}

// testLog is a log that a test can read and wait for.
type testLog struct {
	sync.Mutex
	bytes.Buffer
	wrote chan struct{} // receives a value after a write
}

func newTestLog() *testLog { return &testLog{wrote: make(chan struct{}, 1)} }

func (l *testLog) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.Buffer.Write(p)
}

// await waits until the text of the log meets a condition.
func (l *testLog) await(t *testing.T, condition func(text string) bool) {
	t.Helper()
	late := time.After(forAnswer)
	for !condition(l.String()) {
		select {
		case <-l.wrote:
		case <-late:
			t.Fatalf("the log does not get there:\n%s", l)
		}
	}
}

func (l *testLog) String() string {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.String()
}

// panickingWorld returns a world whose source panics in the armed method.
func panickingWorld(t *testing.T, change func(*Config)) (*world, *atomic.Pointer[string], *testLog) {
	t.Helper()
	armed, log := new(atomic.Pointer[string]), newTestLog()
	w := newWorld(t, func(w *world, c *Config) {
		inner := c.Candidates[0].Dial
		c.Candidates[0].Dial = func(ctx context.Context) (Source, error) {
			if at := armed.Load(); at != nil && *at == "dial" {
				panic("in dial")
			}
			s, err := inner(ctx)
			if err != nil {
				return nil, err
			}
			return panickingSource{s, armed}, nil
		}
		c.Log, c.Poll = slog.New(slog.NewTextHandler(log, nil)), time.Millisecond
		if change != nil {
			change(c)
		}
	})
	w.user("Ann", "ann@corp.example")
	return w, armed, log
}

// TestPanicsEndNothing checks that a pass that panics fails, and that the next pass succeeds.
func TestPanicsEndNothing(t *testing.T) {
	for _, at := range []string{"dial", "root", "read", "page"} {
		t.Run(at, func(t *testing.T) {
			var results <-chan PassResult
			w, armed, log := panickingWorld(t, func(c *Config) { results = passes(c) })
			stop := w.run()
			defer stop()
			if r := next(t, results); r.Err != nil {
				t.Fatal(r.Err)
			}
			armed.Store(&at)
			w.server.CutConnections()
			added := false
			for {
				if !added { // adds a page
					w.user("Bob", "bob@corp.example")
					added = true
				}
				r := next(t, results)
				if errors.Is(r.Err, safely.ErrPanic) {
					break
				}
			}
			if s := w.mirror.Status(); !errors.Is(s.LastError, safely.ErrPanic) || s.Running != nil {
				t.Errorf("status: %+v", s)
			}
			armed.Store(nil)
			for r := next(t, results); r.Err != nil; r = next(t, results) {
			}
			if !strings.Contains(log.String(), "stack=") || !strings.Contains(log.String(), "panic_test.go") {
				t.Error("the log has no stack")
			}
			if _, err := w.mirror.Discard(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPanicInACommand checks that a panic is returned as the error of the command.
func TestPanicInACommand(t *testing.T) {
	w, _, log := panickingWorld(t, nil)
	stop := w.run()
	defer stop()
	for range 2 {
		_, err := runBetweenPasses(t.Context(), w.mirror, func() (int, error) { panic("in a command") })
		if !errors.Is(err, safely.ErrPanic) {
			t.Errorf("error %v", err)
		}
	}
	if n := strings.Count(log.String(), "stack="); n != 2 {
		t.Errorf("%d stacks in the log", n)
	}
	if r := next(t, w.mirror.Sync(false)); r.Err != nil {
		t.Error(r.Err)
	}
}

// TestPanicBesideThePasses panics in the notification and in the confirmation.
func TestPanicBesideThePasses(t *testing.T) {
	w, armed, log := panickingWorld(t, func(c *Config) { c.Notify = true })
	c, err := NewConfirmer(ConfirmConfig{Directories: []ConfirmDirectory{{Mirror: w.mirror}}, Timeout: time.Second,
		PerSecond: 1000})
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	at := "watch"
	armed.Store(&at)
	go func() { done <- c.Run(ctx) }()
	stop := w.run()
	defer func() { cancel(); <-done; stop() }()
	log.await(t, func(text string) bool {
		return strings.Contains(text, "in=notification") && strings.Contains(text, canConfirm)
	})
	at2 := "find"
	armed.Store(&at2)
	nobody, _ := address.Parse("nobody@corp.example")
	for !strings.Contains(log.String(), "in=confirm") {
		if _, err := c.Confirm(t.Context(), nobody, false); err == nil {
			t.Fatal("an answer")
		}
	}
	armed.Store(nil)
	log.await(t, func(text string) bool { // each panic cost one connection
		return strings.Count(text, canConfirm) > strings.Count(text, "in=confirm")
	})
	if _, err := c.Confirm(t.Context(), nobody, false); err != nil {
		t.Errorf("after the last panic: %v", err)
	}
}

// panickingRunner is a runner that panics in its first run.
type panickingRunner struct {
	runs    atomic.Int32
	running chan struct{} // closed once it runs without a panic
}

func (f *panickingRunner) Run(ctx context.Context) error {
	if f.runs.Add(1) == 1 {
		panic("at the start")
	}
	close(f.running)
	<-ctx.Done()
	return nil
}

// TestPanicOfARunner checks that a panic ends neither the group nor the runner.
func TestPanicOfARunner(t *testing.T) {
	before := panicRestartDelay
	panicRestartDelay = time.Millisecond
	defer func() { panicRestartDelay = before }()
	var g Group
	bad, good := &panickingRunner{running: make(chan struct{})}, &panickingRunner{running: make(chan struct{})}
	good.runs.Store(1)
	g.Add(bad, good)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	<-bad.running
	<-good.running
	g.Remove(bad)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPanicOfARetiredDirectory checks that a panic is a failed pass.
func TestPanicOfARetiredDirectory(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	armed := true
	r := NewRetiredDirectory(RetiredConfig{Name: "corp", Store: w.store, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time {
			if armed {
				panic("in the clock")
			}
			return w.now()
		}})
	if got := r.Pass(); !errors.Is(got.Err, safely.ErrPanic) || !errors.Is(r.Status().LastError, safely.ErrPanic) {
		t.Errorf("%+v", got)
	}
	armed = false
	if got := r.Pass(); got.Err != nil {
		t.Error(got.Err)
	}
}
