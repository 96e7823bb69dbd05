package mirror

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Runner looks after one directory until the context ends.
type Runner interface{ Run(context.Context) error }

var (
	_ Runner = (*Mirror)(nil)
	_ Runner = (*RetiredDirectory)(nil)
)

// Group runs what looks after several directories, each by itself. Runners come and go
// while it runs. The zero value has none; all methods may be called concurrently.
type Group struct {
	mu      sync.Mutex
	start   func(Runner) (stop func()) // nil: Run has not begun, or has ended
	members map[Runner]func()          // stops one and waits for its end; nil: it does not run yet
}

// Add takes runners in, and starts them if the group runs.
func (g *Group) Add(runners ...Runner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members == nil {
		g.members = map[Runner]func(){}
	}
	for _, r := range runners {
		if g.members[r] = nil; g.start != nil {
			g.members[r] = g.start(r)
		}
	}
}

// Remove stops runners, and returns when the last of them has ended: what they did to
// the store, they have done.
func (g *Group) Remove(runners ...Runner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var stopping sync.WaitGroup
	for _, r := range runners {
		if stop := g.members[r]; stop != nil {
			stopping.Go(stop)
		}
		delete(g.members, r)
	}
	stopping.Wait()
}

// Run runs all of them until the context ends, and returns when all have ended. The
// first error ends the rest.
func (g *Group) Run(ctx context.Context) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g.startAll(func(r Runner) (stop func()) {
		own, cancel := context.WithCancel(running)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := KeepRunning(own, slog.Default(), "runner", r.Run); err != nil {
				fail(err)
			}
		}()
		return func() { cancel(); <-ended }
	})
	<-running.Done()
	g.stopAll()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

// panicPause is how long a part rests that has panicked; tests change it.
var panicRestartDelay = 10 * time.Second

// KeepRunning runs something until it ends, and again if it panics: what is wrong with one
// part must not end the daemon, which answers from all of them.
func KeepRunning(ctx context.Context, log *slog.Logger, what string, run func(context.Context) error) error {
	for {
		err := Safely(log, what, func() error { return run(ctx) })
		if !errors.Is(err, ErrPanic) {
			return err
		}
		waitAny(ctx, context.Background(), time.After(panicRestartDelay))
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (g *Group) startAll(start func(Runner) func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.start = start
	for r := range g.members {
		g.members[r] = start(r)
	}
}

// end waits for all that run.
func (g *Group) stopAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.start = nil
	for r, stop := range g.members {
		stop()
		g.members[r] = nil
	}
}
