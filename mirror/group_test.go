package mirror

import (
	"context"
	"errors"
	"testing"
)

// runner is a Runner that reports its start and end.
type runner struct {
	began, ended chan bool
	fail         error // returned by Run at once; nil means to wait for the end of ctx
}

func newRunner() *runner { return &runner{began: make(chan bool, 1), ended: make(chan bool, 1)} }

func (r *runner) Run(ctx context.Context) error {
	r.began <- true
	if r.fail == nil {
		<-ctx.Done()
	}
	r.ended <- true
	return r.fail
}

// TestGroup adds and removes runners while others run, and checks that Remove returns only after they have
// ended.
func TestGroup(t *testing.T) {
	var g Group
	first, second, third, never := newRunner(), newRunner(), newRunner(), newRunner()
	g.Add(first, second, never)
	g.Remove(never) // it has never run
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	<-first.began
	<-second.began
	g.Remove(first)
	select {
	case <-first.ended:
	default:
		t.Error("Remove returned before the runner had ended")
	}
	g.Remove(first) // no longer a member
	g.Add(third)
	<-third.began
	if len(second.ended) > 0 {
		t.Error("a runner that stayed has ended")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if len(second.ended) != 1 || len(third.ended) != 1 || len(never.began) > 0 {
		t.Error("Run returned before its runners, or ran one that was removed")
	}
	late := newRunner()
	g.Add(late)
	g.Remove(late)
	if len(late.began) > 0 {
		t.Error("a group that has ended started a runner")
	}
}

func TestGroupEndsAtAnError(t *testing.T) {
	var g Group
	good, bad := newRunner(), newRunner()
	bad.fail = errors.New("broken")
	g.Add(good, bad)
	if err := g.Run(t.Context()); !errors.Is(err, bad.fail) {
		t.Errorf("Run: %v, want %v", err, bad.fail)
	}
	if len(good.ended) != 1 {
		t.Error("the other one still runs")
	}
}
