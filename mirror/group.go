package mirror

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"rcpt-milter/internal/safely"
)

// Runner works for one directory until ctx ends.
type Runner interface{ Run(context.Context) error }

var (
	_ Runner = (*Mirror)(nil)
	_ Runner = (*RetiredDirectory)(nil)
)

// Group runs several runners independently. Runners can be added and removed while it runs. The zero value is
// an empty group. All methods are safe for concurrent use.
type Group struct {
	mu      sync.Mutex
	start   func(Runner) (stop func()) // nil before Run has started and after it has ended
	members map[Runner]func()          // stops the runner and waits for its end; nil if the runner is not running
}

// Add adds runners. It starts them if the group is running.
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

// Remove stops runners. It returns after all of them have ended, so they no longer write to the store.
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

// Run runs all runners until ctx ends. It returns after all of them have ended. The first error of a runner
// ends the others.
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

// panicRestartDelay is the delay before a runner restarts after a panic. Tests change it.
var panicRestartDelay = 10 * time.Second

// KeepRunning calls run until it returns, and calls it again after a panic. A panic in one part must not end
// the daemon, which also answers from the other parts.
func KeepRunning(ctx context.Context, log *slog.Logger, what string, run func(context.Context) error) error {
	for {
		err := safely.Do(log, what, func() error { return run(ctx) })
		if !errors.Is(err, safely.ErrPanic) {
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

// stopAll waits until all runners have ended.
func (g *Group) stopAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.start = nil
	for r, stop := range g.members {
		stop()
		g.members[r] = nil
	}
}
