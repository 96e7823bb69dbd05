package mirror

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
)

// approveFirst approves the held removals before a restarted mirror has reached a controller.
func (w *world) approveFirst() (store.PassInfo, error) {
	w.t.Helper()
	w.server.Down()
	type approval struct {
		info store.PassInfo
		err  error
	}
	done := make(chan approval, 1)
	w.mirror.start()
	go func() {
		info, err := w.mirror.Approve(w.t.Context(), 0)
		done <- approval{info, err}
	}()
	w.mirror.await(func() bool { return len(w.mirror.pending.actions) > 0 })
	stop := w.run()
	got := <-done
	stop()
	w.must(w.server.Up())
	return got.info, got.err
}

// TestApproveAfterAChange checks removals that were held under other rules than the current ones, or because of
// the view of another account or port. An approval before the next pass releases none of them. The next pass
// judges them again, and an operator can then approve what is still missing.
func TestApproveAfterAChange(t *testing.T) {
	wrong := map[string]func(*Config){
		"bases":             func(c *Config) { c.Rules.Bases = []string{elsewhere} },
		"exclude":           func(c *Config) { c.Rules.Exclude = []string{people} },
		"attributes":        func(c *Config) { c.Rules.Attributes = []string{"mail"} },
		"disabled accounts": func(c *Config) { c.Rules.OmitDisabled = true },
		"internal-only":     applyInternalOnly,
	}
	for name, change := range wrong {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *Config) {
				c.Guard, c.Canaries = usualGuard, fixedCanaries(mustParse(t, "ann@corp.example"))
			})
			ann := w.user("Ann", "ann@corp.example")
			w.user("Bob", "bob@corp.example")
			w.setInternalOnly(true, ann)
			w.must(w.d.SetDisabled(ann, true))
			w.pass(store.Full)
			right := w.config
			w.wrongThenRight(change, right)
			info, err := w.approveFirst()
			if info.Removed > 0 || err == nil || !strings.Contains(err.Error(), "judges them again") {
				t.Errorf("approval before the pass: %+v, %v, want an error", info, err)
			}
			w.wantOpen("ann@corp.example", "bob@corp.example")
			if info := w.pass(store.Full); info.Hold != "" || info.Removed > 0 || info.Added > 0 {
				t.Errorf("the pass under the right rules: %+v", info)
			}
			w.wantOpen("ann@corp.example", "bob@corp.example")
			w.leave(ann)
			if info := w.pass(store.Incremental); info.Hold == "" {
				t.Fatalf("the canary leaves: %+v", info)
			}
			if info, err := w.approveFirst(); info.Removed != 1 || err != nil {
				t.Errorf("approval under the right rules: %+v, %v", info, err)
			}
			w.wantOpen("bob@corp.example")
		})
	}
}

// wrongThenRight runs one pass that holds removals under a wrong configuration, and restarts the mirror with
// the right one.
func (w *world) wrongThenRight(change func(*Config), right Config) {
	w.t.Helper()
	change(&w.config)
	w.restart()
	if info := w.pass(store.Full); info.Hold == "" {
		w.t.Fatalf("under the wrong rules: %+v, want it held", info)
	}
	w.advance(time.Minute)
	w.config = right
	w.restart()
}

// TestApproveAfterAnotherView checks removals that were caused by an account without permissions, or by a port
// that shows less.
func TestApproveAfterAnotherView(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"account": func(c *Config) { c.Account = "CN=Blind,DC=corp,DC=example" },
		"port":    func(c *Config) { c.Candidates[0].View = viewCatalog },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *Config) {
				c.Guard, c.Account, c.Candidates[0].View = usualGuard, "CN=Reader,DC=corp,DC=example", viewDomain
			})
			ann := w.user("Ann", "ann@corp.example")
			w.pass(store.Full)
			w.leave(ann) // held, because the domain would become empty
			if info := w.pass(store.Incremental); info.Hold == "" {
				t.Fatalf("not held: %+v", info)
			}
			change(&w.config)
			w.restart()
			if info, err := w.approveFirst(); info.Removed > 0 || err == nil ||
				!strings.Contains(err.Error(), "judges them again") {
				t.Errorf("approval before the pass: %+v, %v, want an error", info, err)
			}
			w.wantKnown("ann@corp.example")
		})
	}
}

// TestApproveAfterRetirement removes a directory from the configuration by mistake and adds it again. An
// approval of the removals that were held in between must not empty it. The retired directory must not approve
// removals that its mirror held.
func TestApproveAfterRetirement(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) {
		c.Guard, c.Canaries = usualGuard, fixedCanaries(mustParse(t, "ann@corp.example"))
	})
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	w.leave(ann)
	w.pass(store.Incremental)
	r := w.retire(usualGuard)
	if info, err := r.Approve(t.Context(), 0); info.Removed > 0 || err == nil {
		t.Errorf("the retired directory approves what the mirror held: %+v, %v", info, err)
	}
	if info := w.retirePass(r); info.Hold == "" || info.Held != 2 {
		t.Fatalf("not held: %+v", info)
	}
	w.restart()
	if info, err := w.approveFirst(); info.Removed > 0 || err == nil {
		t.Errorf("the mirror approves what the retired directory held: %+v, %v", info, err)
	}
	w.wantKnown("ann@corp.example", "bob@corp.example")
	if info := w.pass(store.Full); info.Held != 1 {
		t.Errorf("the pass after the return: %+v, want one held", info)
	}
	if info, err := w.approveFirst(); info.Removed != 1 || err != nil {
		t.Errorf("approval after the pass: %+v, %v", info, err)
	}
	w.wantKnown("bob@corp.example")
}

// TestApproveTakesOnlyWhatIsHeld checks an approval while no controller answers. The wait of a canary has run out
// meanwhile, and no pass has judged it. It is not among the removals that are held, so it stays until the next
// pass, which finds it in the directory.
func TestApproveTakesOnlyWhatIsHeld(t *testing.T) {
	for name, settle := range map[string]func(*world) (removed, kept int, err error){
		"approved": func(w *world) (int, int, error) {
			info, err := w.approveFirst()
			return info.Removed, 0, err
		},
		"discarded": func(w *world) (int, int, error) {
			kept, err := w.mirror.discard()
			return 0, kept, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, d2, s2 := two(t, func(_ *world, c *Config) {
				c.Guard = Guard{Percent: 5, Count: 50, Max: 500, Share: 30, Window: 24 * time.Hour}
				c.Canaries = fixedCanaries(mustParse(t, "ceo@corp.example"))
			})
			for _, n := range []string{"a", "b", "c", "d", "e"} {
				w.user(n, n+"@corp.example")
			}
			solo := w.user("solo", "solo@sub.example")
			d2.ReplicateFrom(w.d, 0)
			w.pass(store.Full)
			w.user("ceo", "ceo@corp.example")
			w.pass(store.Incremental) // dc1 only
			w.advance(15 * time.Minute)
			w.server.Down()
			if info := w.pass(store.Full); info.Hold != "" || info.Removed > 0 {
				t.Fatalf("at dc2, which lacks the canary: %+v, want it to wait", info)
			}
			w.advance(time.Minute)
			w.must(d2.Delete(solo))
			if info := w.pass(store.Incremental); info.Held != 1 {
				t.Fatalf("the domain would be empty: %+v, want one held", info)
			}
			w.advance(3*time.Hour - 20*time.Minute)
			w.pass(store.Incremental)
			s2.Down()
			w.advance(20 * time.Minute)
			if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
				t.Fatal("a pass succeeds without a controller")
			}
			removed, kept, err := settle(w)
			if err != nil || removed+kept != 1 {
				t.Errorf("%d removed, %d kept, %v, want one", removed, kept, err)
			}
			if !w.knows("ceo@corp.example") || w.knows("solo@sub.example") != (kept == 1) {
				t.Errorf("known: %q", w.known())
			}
			d2.ReplicateFrom(w.d, 0)
			w.must(s2.Up())
			if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Held != kept || r.Info.Removed > 0 {
				t.Errorf("the next pass: %+v, %v, want %d held", r.Info, r.Err, kept)
			}
			if !w.knows("ceo@corp.example") {
				t.Error("the next pass removes an address that the directory has")
			}
		})
	}
}

// TestCancelledRequest checks requests whose caller gives up before they run, as while a full pass runs. They
// return an error, and nothing happens later.
func TestCancelledRequest(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *world) error{
		"approve": func(ctx context.Context, w *world) error { _, err := w.mirror.Approve(ctx, 0); return err },
		"discard": func(ctx context.Context, w *world) error { _, err := w.mirror.Discard(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *Config) { c.Guard = usualGuard })
			ann := w.user("Ann", "ann@corp.example")
			w.pass(store.Full)
			w.leave(ann)
			if info := w.pass(store.Incremental); info.Held != 1 {
				t.Fatalf("%+v, want one held", info)
			}
			ctx, cancel := context.WithCancel(t.Context())
			asked := make(chan error, 1)
			w.mirror.start()
			go func() { asked <- ask(ctx, w) }()
			w.mirror.await(func() bool { return len(w.mirror.pending.actions) > 0 })
			cancel()
			if err := <-asked; !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want %v", err, context.Canceled)
			}
			stop := w.run()
			next(t, w.mirror.Sync(false))
			stop()
			if d := w.store.Directory("corp"); !w.knows("ann@corp.example") || d.Marked != 1 || d.Hold == "" {
				t.Errorf("known: %q, %d objects with marks, held because %q", w.known(), d.Marked, d.Hold)
			}
		})
	}
}

// TestCancelledWhileItRuns checks a request whose caller gives up when it already runs. It returns what happened.
func TestCancelledWhileItRuns(t *testing.T) {
	w := newWorld(t, nil)
	stop := w.run()
	defer stop()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		got, err := runBetweenPasses(ctx, w.mirror, func() (int, error) {
			cancel()
			for range 100 {
				runtime.Gosched() // the caller could return
			}
			return 7, nil
		})
		if got != 7 || err != nil {
			t.Fatalf("%d, %v, want 7", got, err)
		}
	}
}

// TestRetiredCancelled checks requests to a retired directory whose caller gave up while a pass ran.
func TestRetiredCancelled(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	r := w.retire(usualGuard)
	w.retirePass(r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if info, err := r.Approve(ctx, 0); !errors.Is(err, context.Canceled) || info.Removed > 0 {
		t.Errorf("approval: %+v, %v", info, err)
	}
	if n, err := r.Discard(ctx); !errors.Is(err, context.Canceled) || n > 0 || r.done() {
		t.Errorf("discard: %d, %v", n, err)
	}
	if d := w.store.Directory("corp"); !w.knows("ann@corp.example") || d.Hold == "" || d.Marked != 1 {
		t.Errorf("known: %q, %d objects with marks, held because %q", w.known(), d.Marked, d.Hold)
	}
}
