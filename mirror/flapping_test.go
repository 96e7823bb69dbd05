package mirror

import (
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// flap makes each pass read the other one of two controllers.
func flap(w *world, passes int, servers ...*adsim.Server) {
	w.t.Helper()
	for i := range passes {
		up, down := servers[i%2], servers[(i+1)%2]
		_ = up.Up() // it may already be up
		down.Down()
		w.advance(time.Hour)
		w.pass(store.Full)
	}
	for _, s := range servers {
		_ = s.Up()
	}
}

// TestHandedOverWhileControllersChange checks that an address that left the bases waits for another directory
// only once, and not again after each change of the controller.
func TestHandedOverWhileControllersChange(t *testing.T) {
	w, d2, s2 := two(t, func(_ *world, c *Config) {
		c.Rules.Bases = []string{people}
		c.HandoverLag = func(string) time.Duration { return 3 * time.Hour }
	})
	w.user("Bob", "bob@corp.example")
	ann := w.user("Ann", "ann@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.must(w.d.Move(ann, elsewhere))
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Incremental)
	flap(w, 2, s2, w.server)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	flap(w, 2, s2, w.server)
	w.wantKnown("bob@corp.example")
}

// TestHiddenObjectWhileControllersChange checks that an object whose uSNChanged is hidden delays removals by
// only one pass, even if each pass is a full one.
func TestHiddenObjectWhileControllersChange(t *testing.T) {
	w, d2, s2 := two(t, nil)
	ann, bob := w.user("Ann", "ann@corp.example"), w.user("Bob", "bob@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.d.HideOf(ann, "uSNChanged")
	d2.HideOf(ann, "uSNChanged")
	w.must(w.d.Delete(bob))
	d2.ReplicateFrom(w.d, 0)
	flap(w, 1, s2, w.server)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	flap(w, 6, w.server, s2)
	w.wantKnown("ann@corp.example")
}
