package mirror

import (
	"context"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// replicas has three controllers of one domain, which are the candidates of w in this order.
type replicas struct {
	*world
	d2, d3 *adsim.Directory
	s2, s3 *adsim.Server
	back   adsim.GUID // owns back@corp.example
}

// bothTimes runs a test with the whenChanged of Windows and with that of Samba.
func bothTimes(t *testing.T, test func(*testing.T, *replicas)) {
	for name, samba := range map[string]bool{"Windows": false, "Samba": true} {
		t.Run(name, func(t *testing.T) {
			r := &replicas{}
			r.world = newWorld(t, func(w *world, c *Config) {
				w.d.SetRecycleBin(true)
				r.d2, r.d3 = w.d.NewReplica("dc2", 5000), w.d.NewReplica("dc3", 9000)
				for _, d := range []*adsim.Directory{w.d, r.d2, r.d3} {
					d.SetOriginTimes(samba)
				}
				r.s2 = adsim.StartTest(w.t, r.d2, adsim.ServerConfig{MaxPageSize: 3})
				r.s3 = adsim.StartTest(w.t, r.d3, adsim.ServerConfig{MaxPageSize: 3})
				c.Candidates = append(c.Candidates, w.candidate(r.s2), w.candidate(r.s3))
			})
			r.user("Ann", "ann@corp.example")
			r.back = r.user("Back", "back@corp.example")
			r.everywhere()
			r.pass(store.Full)
			test(t, r)
		})
	}
}

// everywhere replicates from dc1 to dc2 and dc3.
func (r *replicas) everywhere() {
	r.d2.ReplicateFrom(r.d, 0)
	r.d3.ReplicateFrom(r.d, 0)
}

// undeleted deletes Back at dc1 and restores it a minute later. It calls half in between.
func (r *replicas) undeleted(half func()) {
	r.must(r.d.Delete(r.back))
	half()
	r.advance(time.Minute)
	r.must(r.d.Undelete(r.back, ""))
}

// undeletedElsewhere deletes Back at dc2. dc1 restores it after it has received the deletion.
func (r *replicas) undeletedElsewhere() {
	r.must(r.d2.Delete(r.back))
	r.d.ReplicateFrom(r.d2, 0)
	r.advance(time.Minute)
	r.must(r.d.Undelete(r.back, ""))
}

// at runs a pass at a controller, which must be a full pass.
func (r *replicas) at(host string) store.PassInfo {
	r.t.Helper()
	info := r.pass(store.Full)
	if info.Controller != host+".corp.example" {
		r.t.Fatalf("the pass went to %s, want %s", info.Controller, host)
	}
	return info
}

const both = "ann@corp.example back@corp.example"

func (r *replicas) want(addresses string) {
	r.t.Helper()
	r.wantKnown(strings.Fields(addresses)...)
}

// TestOldTombstoneAtTwoControllers lets dc1 fail, and then dc2. Neither dc2 nor dc3 has the restored object.
func TestOldTombstoneAtTwoControllers(t *testing.T) {
	bothTimes(t, func(t *testing.T, r *replicas) {
		r.advance(24 * time.Minute)
		r.undeleted(r.everywhere)
		r.pass(store.Incremental) // sees it at dc1
		r.advance(time.Minute)
		r.pass(store.Incremental)
		r.server.Down()
		r.at("dc2")
		r.want(both)
		r.advance(time.Minute)
		r.s2.Down()
		r.at("dc3")
		r.want(both)
		r.advance(3 * time.Hour)
		r.pass(store.Incremental)
		r.want("ann@corp.example")
	})
}

// TestOldTombstoneReadTwice makes dc2 lose its position in the tombstones, so it returns the first of them
// again.
func TestOldTombstoneReadTwice(t *testing.T) {
	bothTimes(t, func(t *testing.T, r *replicas) {
		var others []adsim.GUID
		for _, n := range []string{"x1", "x2", "x3", "x4", "x5"} {
			others = append(others, r.user(n))
		}
		r.everywhere()
		r.advance(24 * time.Minute)
		r.undeleted(func() {
			for _, o := range others {
				r.must(r.d.Delete(o))
			}
			r.everywhere()
		})
		r.pass(store.Incremental)
		r.advance(time.Minute)
		r.pass(store.Incremental)
		lost := 0
		r.s2.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
			if strings.HasPrefix(s.Base, "CN=Deleted Objects,") && s.Scope == 2 && s.Page == 1 && lost == 0 {
				lost++
				r.s2.LoseCookies(1)
			}
		}})
		r.server.Down()
		r.at("dc2")
		if lost == 0 {
			t.Fatal("no cookie was lost: this shows nothing")
		}
		r.want(both)
	})
}

// TestUndeletedDuringALongPass uses a deletion at dc2 that dc1 reverts during a pass, before the pass reads the
// object.
func TestUndeletedDuringALongPass(t *testing.T) {
	for name, c := range map[string]struct{ fails, elsewhere bool }{
		"a good pass":                             {false, false},
		"a good pass, deleted at dc2":             {false, true},
		"a pass that fails later":                 {true, false},
		"a pass that fails later, deleted at dc2": {true, true},
	} {
		fails := c.fails
		t.Run(name, func(t *testing.T) {
			bothTimes(t, func(t *testing.T, r *replicas) {
				for _, n := range []string{"x1", "x2", "x3", "x4", "x5"} {
					r.user(n, n+"@corp.example")
				}
				last := r.user("Last", "last@corp.example")
				r.back = last
				r.everywhere()
				r.pass(store.Incremental)
				r.advance(25 * time.Hour)
				done, deepest := false, 0
				r.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
					if deepest = max(deepest, s.Page); done && fails && s.Page == 1 && deepest >= 4 {
						r.server.CutConnections() // changes are read after the object
					}
					if s.Scope != 2 || s.Page != 2 || done { // before the page with the object
						return
					}
					done = true
					r.advance(time.Minute)
					if c.elsewhere {
						r.undeletedElsewhere()
					} else {
						r.undeleted(r.everywhere)
					}
					r.advance(time.Minute)
				}})
				result := r.mirror.Pass(t.Context(), false)
				if !done || fails != (result.Info.Kind == store.Incremental) {
					t.Fatalf("done %t, %+v: this shows nothing", done, result)
				}
				r.server.Down()
				r.at("dc2")
				if !r.knows("last@corp.example") {
					t.Error("last@corp.example is gone, although dc1 showed it after the deletion at dc2")
				}
			})
		})
	}
}

// TestOldTombstoneComesLate lets dc2 receive the old deletion through dc3, after the last good pass at dc1.
func TestOldTombstoneComesLate(t *testing.T) {
	bothTimes(t, func(t *testing.T, r *replicas) {
		r.advance(time.Minute)
		r.undeleted(func() {
			r.pass(store.Incremental)
			r.d3.ReplicateFrom(r.d, 0)
		})
		r.pass(store.Incremental) // learned again from dc1
		r.advance(time.Minute)
		r.pass(store.Incremental)
		r.advance(time.Minute)
		r.d2.ReplicateFrom(r.d3, 0)
		r.server.Down()
		r.at("dc2")
		r.want(both)
	})
}

// TestOldTombstoneAfterTheChange lets dc2 take over while it has the object, and receive the old deletion only
// afterwards, in an incremental pass.
func TestOldTombstoneAfterTheChange(t *testing.T) {
	bothTimes(t, func(t *testing.T, r *replicas) {
		r.advance(5 * time.Hour)
		r.undeleted(func() { r.d3.ReplicateFrom(r.d, 0) })
		r.pass(store.Incremental)
		r.advance(time.Minute)
		r.server.Down()
		r.at("dc2")
		r.advance(time.Minute)
		r.d2.ReplicateFrom(r.d3, 0)
		if info := r.pass(store.Incremental); info.Changed == 0 {
			t.Fatal("no tombstone was read: this shows nothing")
		}
		r.want(both)
		r.restart()
		r.advance(time.Minute)
		r.must(r.d3.Undelete(r.back, "")) // the change of dc1 finally arrives
		r.d2.ReplicateFrom(r.d3, 0)
		r.pass(store.Incremental)
		r.want(both)
	})
}

// TestOldAttributeAfterTheChange does the same with an address that an object lost and regained.
func TestOldAttributeAfterTheChange(t *testing.T) {
	bothTimes(t, func(t *testing.T, r *replicas) {
		r.advance(5 * time.Hour)
		r.set(r.back, "other@corp.example")
		r.d3.ReplicateFrom(r.d, 0)
		r.set(r.back, "other@corp.example", "back@corp.example")
		r.pass(store.Incremental)
		r.advance(time.Minute)
		r.server.Down()
		r.at("dc2")
		r.advance(time.Minute)
		r.d2.ReplicateFrom(r.d3, 0)
		r.pass(store.Incremental)
		r.want(both + " other@corp.example")
	})
}

func atDC1(r *replicas) *adsim.Directory { return r.d }
func atDC2(r *replicas) *adsim.Directory { return r.d2 }
func atDC3(r *replicas) *adsim.Directory { return r.d3 }

// TestDeletionAfterTheLastSighting checks that a deletion that is certainly later than all sightings at other
// controllers takes effect at once, and that one that may be older waits.
func TestDeletionAfterTheLastSighting(t *testing.T) {
	for name, c := range map[string]struct {
		since  time.Duration // time from the last pass at dc1 to the deletion
		where  func(*replicas) *adsim.Directory
		hidden bool // the metadata is hidden
		waits  bool
	}{
		"at the one that takes over":            {time.Minute, atDC2, false, false},
		"at the one before":                     {time.Minute, atDC1, false, false},
		"at a third one, much later":            {15 * time.Minute, atDC3, false, false},
		"at a third one, and clocks may differ": {5 * time.Minute, atDC3, false, true},
		"without the metadata":                  {15 * time.Minute, atDC2, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for change, afterChange := range map[string]bool{"before the change": false, "after the change": true} {
				t.Run(change, func(t *testing.T) {
					bothTimes(t, func(t *testing.T, r *replicas) {
						delete := func() {
							r.advance(c.since)
							r.must(c.where(r).Delete(r.back))
							r.d2.ReplicateFrom(c.where(r), 0)
						}
						if c.hidden {
							r.d2.Hide("replPropertyMetaData")
						}
						if !afterChange {
							delete()
						}
						r.server.Down()
						r.at("dc2")
						if afterChange {
							delete()
							r.pass(store.Incremental)
						}
						if got := !r.knows("back@corp.example"); got == c.waits {
							t.Errorf("removed at once: %t", got)
						}
						r.advance(3 * time.Hour)
						r.pass(store.Incremental)
						r.want("ann@corp.example")
					})
				})
			}
		})
	}
}

// TestFollowedControllerRemovesAtOnce checks that no removal waits if no other controller was read recently,
// and that addresses that only the followed controller has shown never wait.
func TestFollowedControllerRemovesAtOnce(t *testing.T) {
	bothTimes(t, func(t *testing.T, r *replicas) {
		r.set(r.back, "other@corp.example")
		r.pass(store.Incremental)
		r.want("ann@corp.example other@corp.example")
		r.everywhere()
		r.server.Down()
		r.at("dc2")
		r.advance(time.Minute)
		guid, err := r.d2.Add(adsim.User, "CN=New,"+people, adsim.Attrs{"mail": {"new@corp.example"}})
		r.must(err)
		r.pass(store.Incremental)
		r.want("ann@corp.example new@corp.example other@corp.example")
		r.must(r.d2.Modify(guid, adsim.Set("mail")))
		r.pass(store.Incremental)
		r.want("ann@corp.example other@corp.example")
		r.advance(4 * time.Hour)
		r.must(r.d2.Modify(r.back, adsim.Set("proxyAddresses")))
		r.pass(store.Incremental)
		r.want("ann@corp.example")
	})
}

// TestSightingOverARestart reads a restored object at dc1 in a pass that does not end, because the daemon
// stops. dc2 still has the deletion, and the next process reads dc2.
func TestSightingOverARestart(t *testing.T) {
	for name, elsewhere := range map[string]bool{"deleted at dc1": false, "deleted at dc2": true} {
		t.Run(name, func(t *testing.T) {
			bothTimes(t, func(t *testing.T, r *replicas) {
				for _, n := range []string{"x1", "x2", "x3", "x4"} {
					r.user(n, n+"@corp.example")
				}
				r.everywhere()
				r.pass(store.Incremental)
				r.advance(time.Minute)
				if elsewhere {
					r.undeletedElsewhere()
				} else {
					r.undeleted(r.everywhere)
				}
				r.advance(time.Minute)
				ctx, stop := context.WithCancel(t.Context())
				r.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
					if onlyFull(s) && s.Page == 4 {
						stop() // back@corp.example was read on the second page
					}
				}})
				if result := r.mirror.Pass(ctx, true); result.Err == nil {
					t.Fatalf("the pass ends: %+v", result)
				}
				r.server.Down()
				r.restartAll()
				r.at("dc2")
				if !r.knows("back@corp.example") {
					t.Error("back@corp.example is gone, although dc1 showed it after its deletion")
				}
			})
		})
	}
}
