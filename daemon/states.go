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

// stateInterval is the interval between checks of the states. A directory becomes late and stale with time,
// even without passes.
const stateInterval = time.Second

// observedState is the freshness of a directory or an accept file.
type observedState struct {
	kind     string // inDirectory or inFile
	name     string // name of a directory, or absolute path of a file
	state    mirror.State
	lastGood time.Time    // start of the last good pass, or modification time of the file; zero if none
	cause    func() error // returns the error of the last pass, or nil
}

// Kinds of an observedState, used as log attributes.
const (
	inDirectory = "directory"
	inFile      = "file"
)

// states returns the states of the active directories.
func (sm *syncManager) states() []observedState {
	var all []observedState
	for _, d := range sm.active() {
		state, lastGood := d.State()
		all = append(all, observedState{inDirectory, d.Name(), state, lastGood,
			func() error { return d.Status().LastError }})
	}
	return all
}

// observedStates returns the states of the active directories and of the accept files.
func (d *daemon) observedStates() []observedState {
	return append(d.syncs.states(), d.index().ages.states()...)
}

// stateLog logs each state change of a directory, of an accept file and of the whole index once. It identifies
// directories by name, so a new mirror after a reload is not a change.
type stateLog struct {
	observe func() []observedState
	log     *slog.Logger
	now     func() time.Time

	mu     sync.Mutex                          // guards the fields below
	before map[string]timedState[mirror.State] // by name
	index  timedState[control.State]
}

// timedState is a state, and the time since when it has been observed.
type timedState[S ~string] struct {
	state S
	since time.Time
}

func newStateLog(observe func() []observedState, log *slog.Logger, now func() time.Time) *stateLog {
	return &stateLog{observe: observe, log: log, now: now, before: map[string]timedState[mirror.State]{}}
}

// Run checks the states until ctx ends. They are also checked after each pass.
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

// Check logs changes since the last check. It logs the first state of a directory unless it is fresh.
func (l *stateLog) Check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, states := l.now(), l.observe()
	next := make(map[string]timedState[mirror.State], len(states))
	index := control.Fresh
	for _, d := range states {
		was := l.before[d.name]
		next[d.name] = was.next(d.state, now)
		if was.worthLogging(d.state) {
			l.stateChanged(was, d, now)
		}
		index = control.Worst(index, stateOf(d.state))
	}
	l.before = next
	if l.index.worthLogging(index) {
		l.log.Log(context.Background(), levelOf(index), "index state changed",
			append(l.index.attrs(index, now), namesIn(index, states)...)...)
	}
	l.index = l.index.next(index, now)
}

// namesIn returns the names of the directories and the files in a state, as log attributes. It omits the files
// if there are none.
func namesIn(state control.State, states []observedState) []any {
	names := map[string][]string{}
	for _, d := range states {
		if stateOf(d.state) == state {
			names[d.kind] = append(names[d.kind], d.name)
		}
	}
	attrs := []any{"directories", strings.Join(names[inDirectory], " ")}
	if files := names[inFile]; len(files) > 0 {
		attrs = append(attrs, "files", strings.Join(files, " "))
	}
	return attrs
}

func (l *stateLog) stateChanged(was timedState[mirror.State], d observedState, now time.Time) {
	attrs := append([]any{d.kind, d.name}, was.attrs(d.state, now)...)
	message, since := "directory state changed", "last_good"
	if d.kind == inFile {
		message, since = "accept file state changed", "modified"
	}
	if !d.lastGood.IsZero() {
		attrs = append(attrs, since, d.lastGood.UTC().Format(time.RFC3339), "age",
			now.Sub(d.lastGood).Round(time.Second))
	}
	if err := d.cause(); err != nil && d.state != mirror.Fresh {
		attrs = append(attrs, "error", err)
	}
	l.log.Log(context.Background(), levelOf(d.state), message, attrs...)
}

// next returns the timed state after a check that found state.
func (l timedState[S]) next(state S, now time.Time) timedState[S] {
	if l.state == state {
		return l
	}
	return timedState[S]{state, now}
}

// worthLogging reports whether to log a change to a state. A first state is not logged if it is fresh.
func (l timedState[S]) worthLogging(state S) bool {
	return l.state != state && (l.state != "" || state != S(mirror.Fresh))
}

// attrs returns the new state, the previous state and its duration as log attributes.
func (l timedState[S]) attrs(state S, now time.Time) []any {
	attrs := []any{"state", string(state)}
	if l.state != "" {
		attrs = append(attrs, "was", string(l.state), "lasted", now.Sub(l.since).Round(time.Second))
	}
	return attrs
}

// levelOf returns the log level of a state. A late index defers no mail; a stale one does.
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
