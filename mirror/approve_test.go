package mirror

import (
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// approveFirst approves what is held before a restarted mirror has reached a controller.
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

// TestApproveAfterAChange: removals were held under other rules than the present ones, or by the
// view of another account or port. An approval before the next pass releases none of them. The
// next pass judges them anew, and what is still missing can then be approved.
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
				c.Guard, c.Canaries = usualGuard, []address.Address{mustParse(t, "ann@corp.example")}
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

// wrongThenRight lets one pass hold removals under a wrong configuration, and restarts the mirror
// with the right one.
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

// TestApproveAfterAnotherView: an account that may read nothing, or a port that shows less, made
// the removals.
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
			w.leave(ann) // held: the domain would be empty
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

// TestApproveAfterRetirement: a directory was removed from the configuration by mistake, and
// returns. An approval of what was held in between must not empty it. Nor does the retired
// directory approve what its mirror held.
func TestApproveAfterRetirement(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) {
		c.Guard, c.Canaries = usualGuard, []address.Address{mustParse(t, "ann@corp.example")}
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
