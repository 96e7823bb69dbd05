package mirror

import (
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestLagOfIncrementalPasses: only incremental passes report how long changes took. A full pass reads objects
// that changed long ago, also one that begins as an incremental pass and meets a container that moved.
func TestLagOfIncrementalPasses(t *testing.T) {
	lags := 0
	w := newWorld(t, func(w *world, c *Config) {
		c.Rules.Exclude = []string{"CN=Users,DC=corp,DC=example"}
		c.Observe.Lag = func(time.Duration) { lags++ }
	})
	want := func(what string, kind store.Kind, want int) {
		t.Helper()
		lags = 0
		if w.pass(kind); lags != want {
			t.Errorf("%s: %d lags, want %d", what, lags, want)
		}
	}
	team := w.add(adsim.OU, "OU=Team,"+people)
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	want("the first pass", store.Full, 0)
	w.set(ann, "anne@corp.example")
	w.user("Cid", "cid@corp.example")
	want("two changes", store.Incremental, 2)
	want("no change", store.Incremental, 0)
	w.set(ann, "ann@corp.example")
	w.must(w.d.Move(team, "CN=Users,DC=corp,DC=example"))
	want("a change while a container moved", store.Full, 0)
}
