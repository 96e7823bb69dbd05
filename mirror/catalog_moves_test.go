package mirror

import (
	"fmt"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestWhatMovesBetweenDomainsOfACatalog checks an address that one domain of a forest loses, as a Global Catalog
// shows it. The other domain, which may have the address now, replicates to the same controller at another time.
func TestWhatMovesBetweenDomainsOfACatalog(t *testing.T) {
	for name, c := range map[string]struct {
		domainOnly bool
		lose       func(w *world, ann adsim.GUID)
		full       bool
		stays      bool
	}{
		"the address is handed over": {false, func(w *world, ann adsim.GUID) { w.set(ann) }, false, true},
		"the object moves, without a tombstone": {false, func(w *world, ann adsim.GUID) {
			w.must(w.d.Delete(ann))
			w.must(w.d.Purge(ann))
		}, true, true},
		"the object is deleted":         {false, func(w *world, ann adsim.GUID) { w.must(w.d.Delete(ann)) }, false, false},
		"only one domain is to be seen": {true, func(w *world, ann adsim.GUID) { w.set(ann) }, false, false},
	} {
		for _, arrives := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, arrives %t", name, arrives), func(t *testing.T) {
				w := forest(t, nil)
				w.reload(w.through(w.server, !c.domainOnly, "svc-mail@corp.example"))
				w.pass(store.Full)
				w.advance(time.Minute)
				ann, err := w.d.Lookup("CN=Ann," + people)
				w.must(err)
				cid, err := w.d.Lookup("CN=Cid," + child)
				w.must(err)
				c.lose(w, ann.GUID)
				if r := w.mirror.Pass(t.Context(), c.full); r.Err != nil {
					t.Fatal(r.Err)
				}
				for _, passed := range []time.Duration{0, 90 * time.Minute, 89 * time.Minute} {
					w.advance(passed)
					w.pass(store.Incremental)
					if got := w.knows("ann@corp.example"); got != c.stays {
						t.Fatalf("known %t", got)
					}
				}
				if arrives {
					w.set(cid.GUID, "cid@child.example", "ann@corp.example")
				}
				w.pass(store.Incremental)
				w.advance(time.Minute)
				w.pass(store.Incremental)
				if got, want := w.knows("ann@corp.example"), arrives && !c.domainOnly; got != want {
					t.Errorf("known %t after the lag, want %t", got, want)
				}
			})
		}
	}
}
