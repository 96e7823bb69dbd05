package mirror

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// twoDirectories is a domain with two controllers. The directory corp follows OU=People at dc1. The directory
// left follows OU=Left at dc2, which receives changes when the test replicates.
type twoDirectories struct {
	*world
	d2   *adsim.Directory
	left *Mirror
}

func newTwoDirectories(t *testing.T, change func(*Config)) *twoDirectories {
	w := &twoDirectories{}
	var second Candidate
	w.world = newWorld(t, func(in *world, c *Config) {
		in.d.SetRecycleBin(true)
		w.d2 = in.d.NewReplica("dc2", 5000)
		second = in.candidate(adsim.StartTest(t, w.d2, adsim.ServerConfig{MaxPageSize: 3}))
		c.Rules.Bases = []string{people}
		if change != nil {
			change(c)
		}
	})
	config := w.config
	config.Name, config.Candidates, config.Rules.Bases = "left", []Candidate{second}, []string{elsewhere}
	var err error
	w.left, err = New(config)
	w.must(err)
	t.Cleanup(w.left.Close)
	return w
}

// begin reads both directories for the first time.
func (w *twoDirectories) begin() {
	w.t.Helper()
	w.d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.passLeft()
	w.advance(time.Minute)
}

func (w *twoDirectories) passLeft() store.PassInfo {
	w.t.Helper()
	r := w.left.Pass(w.t.Context(), false)
	if r.Err != nil {
		w.t.Fatal(r.Err)
	}
	return r.Info
}

// TestWhatMovesBetweenTwoDirectories checks an address that one of two directories loses. The other directory
// may not have received it yet, so it stays for the replication lag, unless its object was deleted.
func TestWhatMovesBetweenTwoDirectories(t *testing.T) {
	none := func(string) time.Duration { return 0 }
	for name, c := range map[string]struct {
		shared func(string) time.Duration
		move   func(w *twoDirectories, ann, cid adsim.GUID)
		full   bool
		stays  bool
	}{
		"the object moves": {nil, func(w *twoDirectories, ann, _ adsim.GUID) {
			w.must(w.d.Move(ann, elsewhere))
		}, false, true},
		"the address is handed over": {nil, func(w *twoDirectories, ann, cid adsim.GUID) {
			w.set(ann)
			w.set(cid, "cid@corp.example", "ann@corp.example")
		}, false, true},
		"it moves to another domain, without a tombstone": {nil, func(w *twoDirectories, ann, _ adsim.GUID) {
			w.must(w.d.Delete(ann))
			w.must(w.d.Purge(ann))
		}, true, true},
		"it is deleted": {nil, func(w *twoDirectories, ann, _ adsim.GUID) {
			w.must(w.d.Delete(ann))
		}, false, false},
		"no other directory may have it": {none, func(w *twoDirectories, ann, _ adsim.GUID) {
			w.must(w.d.Move(ann, elsewhere))
		}, false, false},
		"the other one may have other domains": {func(domain string) time.Duration {
			return map[string]time.Duration{"": 3 * time.Hour, "lab.example": 3 * time.Hour}[domain]
		}, func(w *twoDirectories, ann, _ adsim.GUID) { w.set(ann) }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTwoDirectories(t, nil)
			w.mirror.SetLimits(Limits{HandoverLag: c.shared})
			w.user("Bob", "bob@corp.example")
			ann := w.user("Ann", "ann@corp.example")
			cid := w.add(adsim.User, "CN=Cid,"+elsewhere, "cid@corp.example")
			w.begin()
			c.move(w, ann, cid)
			if r := w.mirror.Pass(t.Context(), c.full); r.Err != nil {
				t.Fatal(r.Err)
			}
			for _, passed := range []time.Duration{0, 90 * time.Minute, 89 * time.Minute} {
				w.advance(passed)
				w.passLeft()
				w.pass(store.Incremental)
				if got := w.knows("ann@corp.example"); got != c.stays {
					t.Fatalf("known %t", got)
				}
			}
			w.advance(time.Minute)
			w.pass(store.Incremental)
			w.wantKnown("bob@corp.example", "cid@corp.example")
		})
	}
}

// TestHandedOverAlready checks that a removal waits even if the other directory already has the address,
// because its owner there may be deleted before the new one is read.
func TestHandedOverAlready(t *testing.T) {
	w := newTwoDirectories(t, nil)
	w.user("Bob", "bob@corp.example")
	ann := w.user("Ann", "ann@corp.example")
	cid := w.add(adsim.User, "CN=Cid,"+elsewhere, "cid@corp.example")
	eve := w.add(adsim.User, "CN=Eve,"+elsewhere, "eve@corp.example")
	w.begin()
	w.set(cid, "cid@corp.example", "ann@corp.example")
	w.d2.ReplicateFrom(w.d, 0)
	w.passLeft()
	w.set(ann)
	w.set(eve, "eve@corp.example", "ann@corp.example") // the other controller does not have it yet
	if info := w.pass(store.Incremental); info.Removed != 0 {
		t.Errorf("handed over: %+v", info)
	}
	w.must(w.d2.Delete(cid))
	w.passLeft()
	w.wantKnown("ann@corp.example", "bob@corp.example", "eve@corp.example")
	w.d2.ReplicateFrom(w.d, 0)
	w.passLeft()
	w.advance(3 * time.Hour)
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "bob@corp.example", "eve@corp.example")
}

// interleave runs a pass of each directory. The second pass reads after the first one has judged its removals
// but before it has committed them, and continues as far as it can.
func (w *twoDirectories) interleave() (first, second store.PassInfo) {
	w.t.Helper()
	var ended sync.WaitGroup
	var judged, done atomic.Bool
	w.left.afterGuard = func() { judged.Store(true) }
	w.mirror.afterGuard = func() {
		ended.Go(func() {
			defer done.Store(true)
			r := w.left.Pass(w.t.Context(), false)
			if second = r.Info; r.Err != nil {
				w.t.Error(r.Err)
			}
		})
		for !judged.Load() && !done.Load() && w.store.Deciders() < 2 {
			runtime.Gosched()
		}
	}
	first = w.pass(store.Incremental)
	ended.Wait()
	w.left.afterGuard, w.mirror.afterGuard = nil, nil
	return first, second
}

// TestTwoDirectoriesJudgeAtOnce lets two directories lose their parts of something at the same moment, although
// not all of it may be removed. The second pass is judged by the result of the first.
func TestTwoDirectoriesJudgeAtOnce(t *testing.T) {
	canary := "boss@canary.example"
	for name, c := range map[string]struct {
		first, second []string // addresses that corp and left lose
		hold          string
	}{
		"half of a domain each": {
			[]string{"a@lab.example", "b@lab.example"}, []string{"c@lab.example", "d@lab.example"}, "lab.example"},
		"a canary that both have": {[]string{canary}, []string{canary}, canary},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTwoDirectories(t, func(c *Config) {
				c.Guard, c.Canaries = usualGuard, fixedCanaries(mustParse(t, canary))
			})
			w.user("Stays", "stays@corp.example")
			w.add(adsim.User, "CN=Stays too,"+elsewhere, "stays.too@corp.example", "other@canary.example")
			ann := w.user("Ann", c.first...)
			cid := w.add(adsim.User, "CN=Cid,"+elsewhere, c.second...)
			w.begin()
			w.must(w.d.Delete(ann))
			w.must(w.d2.Delete(cid))
			first, second := w.interleave()
			if first.Removed != len(c.first) || first.Hold != "" {
				t.Errorf("the first one: %+v", first)
			}
			if second.Removed != 0 || !strings.Contains(second.Hold, c.hold) {
				t.Errorf("the second one: %+v", second)
			}
			for _, a := range c.second {
				if !w.knows(a) {
					t.Errorf("%s is gone", a)
				}
			}
		})
	}
}

// TestRetiredWaitsForAnotherDirectory checks addresses that only a retired directory has. They may have moved
// to another directory that has not read them yet.
func TestRetiredWaitsForAnotherDirectory(t *testing.T) {
	w := newTwoDirectories(t, nil)
	w.user("Bob", "bob@corp.example")
	ann := w.add(adsim.User, "CN=Ann,"+elsewhere, "ann@corp.example")
	w.begin()
	w.must(w.d2.Move(ann, people)) // dc1 receives it two hours later
	config := RetiredConfig{Name: "left", Store: w.store, Now: w.now, Log: w.config.Log,
		HandoverLag: func(string) time.Duration { return 3 * time.Hour }}
	r := NewRetiredDirectory(config)
	if info := w.retirePass(r); !strings.Contains(info.Hold, "replication_lag") || info.Held != 1 {
		t.Errorf("first pass: %+v", info)
	}
	w.advance(time.Hour)
	if info := w.retirePass(r); info.Number != 0 {
		t.Errorf("another pass commits %+v", info)
	}
	w.advance(time.Hour)
	r = NewRetiredDirectory(config) // as after a restart
	if info := w.retirePass(r); !strings.Contains(info.Hold, "replication_lag") {
		t.Errorf("after a restart: %+v", info)
	}
	w.wantKnown("ann@corp.example", "bob@corp.example")
	w.d.ReplicateFrom(w.d2, 0)
	w.pass(store.Incremental)
	if info := w.retirePass(r); info.Hold != "" || !r.Gone() {
		t.Errorf("when the other one has it: %+v", info)
	}
	w.wantKnown("ann@corp.example", "bob@corp.example")
}

// TestRetiredWaitsNoLonger checks that the addresses are removed if no other directory has read them within the
// lag.
func TestRetiredWaitsNoLonger(t *testing.T) {
	w := newTwoDirectories(t, nil)
	w.user("Bob", "bob@corp.example")
	w.add(adsim.User, "CN=Ann,"+elsewhere, "ann@corp.example")
	w.begin()
	r := NewRetiredDirectory(RetiredConfig{Name: "left", Store: w.store, Now: w.now, Log: w.config.Log,
		HandoverLag: func(string) time.Duration { return 3 * time.Hour }})
	w.retirePass(r)
	w.advance(3 * time.Hour)
	if info := w.retirePass(r); info.Hold != "" || !r.Gone() {
		t.Errorf("after the lag: %+v", info)
	}
	w.wantKnown("bob@corp.example")
}

// TestRetiredWaitAfterARestart checks that the wait begins anew with each process, because the clock may have been
// wrong in the one before.
func TestRetiredWaitAfterARestart(t *testing.T) {
	for name, before := range map[string]time.Duration{"right": 0, "behind": -24 * time.Hour, "ahead": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newTwoDirectories(t, nil)
			w.user("Bob", "bob@corp.example")
			w.add(adsim.User, "CN=Ann,"+elsewhere, "ann@corp.example")
			w.begin()
			ahead := before
			config := RetiredConfig{Name: "left", Store: w.store, Log: w.config.Log,
				Now:         func() time.Time { return w.now().Add(ahead) },
				HandoverLag: func(string) time.Duration { return 3 * time.Hour }}
			w.retirePass(NewRetiredDirectory(config))
			ahead = 0
			w.advance(retiredInterval)
			r := NewRetiredDirectory(config)
			w.retirePass(r)
			w.advance(3*time.Hour - retiredInterval)
			w.retirePass(r)
			w.wantKnown("ann@corp.example", "bob@corp.example")
			w.advance(retiredInterval)
			w.retirePass(r)
			if w.wantKnown("bob@corp.example"); !r.Gone() {
				t.Error("not gone after the wait")
			}
		})
	}
}

// TestRetiredWaitEnds checks that the wait for another directory ends although something else changes meanwhile:
// the reason of the hold names fewer domains, or the guard releases what it held.
func TestRetiredWaitEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		guard  Guard
		owned  []string // by the retired directory alone
		gained []string // of these, what the other directory gains after an hour
		left   string
	}{
		{"another domain no longer waits", Guard{}, []string{"ann@corp.example", "lab@lab.example"},
			[]string{"lab@lab.example"}, "ann@corp.example"},
		{"the guard no longer holds", defaultGuard,
			[]string{"a@corp.example", "b@corp.example", "c@corp.example"},
			[]string{"a@corp.example", "b@corp.example"}, "c@corp.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTwoDirectories(t, nil)
			w.user("Bob", "bob@corp.example")
			for _, a := range c.owned {
				w.add(adsim.User, "CN="+a+","+elsewhere, a)
			}
			w.begin()
			r := NewRetiredDirectory(RetiredConfig{Name: "left", Store: w.store, Guard: c.guard, Now: w.now,
				Log:         w.config.Log,
				HandoverLag: func(string) time.Duration { return 3 * time.Hour }})
			if info := w.retirePass(r); info.Held != len(c.owned) {
				t.Fatalf("first pass: %+v", info)
			}
			w.advance(time.Hour)
			for _, a := range c.gained {
				w.user(a, a)
			}
			w.pass(store.Incremental)
			for range 11 {
				w.retirePass(r)
				w.advance(retiredInterval)
			}
			if !w.knows(c.left) {
				t.Errorf("%s does not wait", c.left)
			}
			for range 3 {
				w.retirePass(r)
				w.advance(retiredInterval)
			}
			if !r.Gone() || w.knows(c.left) {
				t.Errorf("after the wait: gone %t, status %+v", r.Gone(), r.Status())
			}
			for _, a := range c.gained {
				if !w.knows(a) {
					t.Errorf("%s is gone", a)
				}
			}
		})
	}
}
