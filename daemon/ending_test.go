package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// hangingStore can make all writes hang, like a disk whose fsync never returns.
type hangingStore struct {
	hangs   atomic.Bool
	entered chan struct{} // receives a value when a write hangs
	resumed chan struct{} // closed to let writes continue
}

func (h *hangingStore) change(at *store.Config) {
	at.FreeSpace = func(string) (uint64, error) {
		if h.hangs.Load() {
			select {
			case h.entered <- struct{}{}:
			default:
			}
			<-h.resumed
		}
		return 1 << 40, nil
	}
}

// TestEndIsBounded checks that a store that cannot be written delays the end of the daemon only for endLimit,
// and that the error names the part that has not ended.
func TestEndIsBounded(t *testing.T) {
	defer func(before time.Duration) { endLimit = before }(endLimit)
	h := &hangingStore{entered: make(chan struct{}, 1), resumed: make(chan struct{})}
	d := openTestDaemon(t, func(d *daemon) { d.changeStore = h.change })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	d.refusals.Observe(policy.Query{}, policy.Decision{Verdict: policy.VerdictUnknown, Reply: rejection(t)})
	h.hangs.Store(true)
	cancel() // flushes the refusals
	select {
	case <-h.entered:
	case <-time.After(time.Minute):
		t.Fatal("nothing is written at the end")
	}
	endLimit = 100 * time.Millisecond
	log, text := newTestLog()
	err := d.ending.wait(ended, log)
	if err == nil || !strings.Contains(err.Error(), "gave up after 100ms waiting for: refusals") {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(text.String(), `level=ERROR msg="gave up waiting at the end; the store was not closed"`) {
		t.Errorf("log %s", text)
	}
	endLimit = time.Minute
	h.hangs.Store(false)
	close(h.resumed)
	if err := d.ending.wait(ended, log); err != nil {
		t.Errorf("after the disk is back: %v", err)
	}
}

// blockingLog is a log that blocks at some level.
type blockingLog struct {
	slog.Handler
	level slog.Level
	block chan struct{}
}

func (b blockingLog) Enabled(context.Context, slog.Level) bool { return true }

func (b blockingLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= b.level {
		<-b.block
	}
	return nil
}

func (b blockingLog) WithAttrs([]slog.Attr) slog.Handler { return b }
func (b blockingLog) WithGroup(string) slog.Handler      { return b }

// TestProbeLogs checks that a log that blocks the answer to a recipient makes the daemon not ready and not
// alive.
func TestProbeLogs(t *testing.T) {
	b := blockingLog{slog.DiscardHandler, slog.LevelError + 1, make(chan struct{})}
	d := openTestDaemon(t, func(d *daemon) { d.log = slog.New(b) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ready := backend{d, time.Now(), time.Now}
	for range 2 { // the second call joins the first probe
		if err := ready.Ready(ctx); err == nil || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("ready with %v", err)
		}
	}
	alive := make(chan string, 1)
	go func() { alive <- d.alive() }()
	select {
	case state := <-alive:
		t.Errorf("alive: %s", state)
	case <-time.After(20 * time.Millisecond):
	}
	close(b.block)
	if err := ready.Ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	<-alive
}

// TestProbePanics checks that a panic makes the daemon not ready, and that the next call starts a new probe.
func TestProbePanics(t *testing.T) {
	log, _ := newTestLog()
	fails := true
	p := prober{log: log, do: func() {
		if fails {
			panic("in a lookup")
		}
	}}
	if err := p.check(t.Context()); err == nil || !strings.Contains(err.Error(), "in a lookup") {
		t.Errorf("error %v", err)
	}
	fails = false
	if err := p.check(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	p.do = func() { <-t.Context().Done() }
	if err := p.check(ctx); err == nil {
		t.Error("ready although the probe hangs")
	}
}

// TestProbeDecides checks that the probe is about an unknown recipient of a judged domain, which is neither counted
// nor searched for.
func TestProbeDecides(t *testing.T) {
	log, text := newTestLog()
	d := openTestDaemon(t, func(d *daemon) { d.log = log })
	d.probeRCPT()
	if !strings.Contains(text.String(), "@corp.example verdict=not-ready") {
		t.Errorf("log %s", text)
	}
	for verdict, n := range d.server.Counters().Decisions() {
		if n != 0 {
			t.Errorf("%d counted as %s", n, verdict)
		}
	}
}
