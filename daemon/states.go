package daemon

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/mirror"
)

// stateInterval is how often states are checked between passes: a directory becomes late and
// stale by time alone.
const stateInterval = time.Second

// directoryState is the freshness of a directory.
type directoryState struct {
	name     string
	state    mirror.State
	lastGood time.Time    // start of the last good pass; zero if there was none
	cause    func() error // returns the error of the last pass, or nil
}

// states returns the states of the active directories.
func (sm *syncManager) states() []directoryState {
	var all []directoryState
	for _, d := range sm.active() {
		state, lastGood := d.State()
		all = append(all, directoryState{d.Name(), state, lastGood, func() error { return d.Status().LastError }})
	}
	return all
}

// stateLog logs each change of the state of a directory and of the whole index once. It
// identifies directories by name, so a reload that creates a new mirror changes nothing.
type stateLog struct {
	observe func() []directoryState
	log     *slog.Logger
	now     func() time.Time

	mu          sync.Mutex // guards the fields below
	directories map[string]timedState[mirror.State]
	index       timedState[control.State]
}

// timedState is a state, and the time since when it has been seen.
type timedState[S ~string] struct {
	state S
	since time.Time
}

func newStateLog(observe func() []directoryState, log *slog.Logger, now func() time.Time) *stateLog {
	return &stateLog{observe: observe, log: log, now: now, directories: map[string]timedState[mirror.State]{}}
}

// Run checks until ctx ends. onPass checks too.
func (l *stateLog) Run(ctx context.Context) error {
	ticker := time.NewTicker(stateInterval)
	defer ticker.Stop()
	for {
		l.Check()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Check logs what has changed since the last check. The first state of a directory is logged
// unless it is fresh.
func (l *stateLog) Check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, states := l.now(), l.observe()
	next := make(map[string]timedState[mirror.State], len(states))
	index, worst := control.Fresh, []string(nil)
	for _, d := range states {
		was := l.directories[d.name]
		next[d.name] = was.next(d.state, now)
		if was.worthLogging(d.state) {
			l.directoryChanged(was, d, now)
		}
		switch s := stateOf(d.state); {
		case s == index:
			worst = append(worst, d.name)
		case control.Worst(index, s) == s:
			index, worst = s, []string{d.name}
		}
	}
	l.directories = next
	if l.index.worthLogging(index) {
		l.log.Log(context.Background(), levelOf(index), "index state changed",
			append(l.index.attrs(index, now), "directories", strings.Join(worst, " "))...)
	}
	l.index = l.index.next(index, now)
}

func (l *stateLog) directoryChanged(was timedState[mirror.State], d directoryState, now time.Time) {
	attrs := append([]any{"directory", d.name}, was.attrs(d.state, now)...)
	if !d.lastGood.IsZero() {
		attrs = append(attrs, "last_good", d.lastGood.UTC().Format(time.RFC3339), "age",
			now.Sub(d.lastGood).Round(time.Second))
	}
	if err := d.cause(); err != nil && d.state != mirror.Fresh {
		attrs = append(attrs, "error", err)
	}
	l.log.Log(context.Background(), levelOf(d.state), "directory state changed", attrs...)
}

// next returns the state from now on.
func (l timedState[S]) next(state S, now time.Time) timedState[S] {
	if l.state == state {
		return l
	}
	return timedState[S]{state, now}
}

// worthLogging reports whether a change to a state is logged. The first state is not if it is
// fresh.
func (l timedState[S]) worthLogging(state S) bool {
	return l.state != state && (l.state != "" || state != S(mirror.Fresh))
}

// attrs returns the state, the state before, and how long that lasted.
func (l timedState[S]) attrs(state S, now time.Time) []any {
	attrs := []any{"state", string(state)}
	if l.state != "" {
		attrs = append(attrs, "was", string(l.state), "lasted", now.Sub(l.since).Round(time.Second))
	}
	return attrs
}

// levelOf returns the level for a state. A late index defers no mail; a stale one does.
func levelOf(s control.State) slog.Level {
	switch s {
	case control.Fresh:
		return slog.LevelInfo
	case control.Stale:
		return slog.LevelError
	default:
		return slog.LevelWarn
	}
}
