package mirror

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// twoDirectories is a domain at two controllers. The directory corp follows OU=People at
// dc1, the directory left follows OU=Left at dc2, which receives changes when the test
// replicates.
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

// TestWhatMovesBetweenTwoDirectories: an address that one of two directories loses may not
// have reached the other yet. It stays for the replication lag, unless its object was
// deleted.
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

// TestHandedOverAlready checks that a removal waits although the other directory has the
// address already: its owner there may be deleted before the new one is read.
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

// interleave runs a pass of each directory. The pass of the second directory reads while
// that of the first one has judged its removals but not committed them, and continues as
// far as it can.
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

// TestTwoDirectoriesJudgeAtOnce: two directories lose, at the same moment, their parts of
// something that must not go as a whole. The second pass is judged by the result of the
// first.
func TestTwoDirectoriesJudgeAtOnce(t *testing.T) {
	canary := "boss@canary.example"
	for name, c := range map[string]struct {
		first, second []string // addresses that go, of corp and of left
		hold          string
	}{
		"half of a domain each": {
			[]string{"a@lab.example", "b@lab.example"}, []string{"c@lab.example", "d@lab.example"}, "lab.example"},
		"a canary that both have": {[]string{canary}, []string{canary}, canary},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTwoDirectories(t, func(c *Config) {
				c.Guard, c.Canaries = usualGuard, []address.Address{mustParse(t, canary)}
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

// TestRetiredWaitsForAnotherDirectory: addresses that only a retired directory has may have
// moved to another directory that has not read them yet.
func TestRetiredWaitsForAnotherDirectory(t *testing.T) {
	w := newTwoDirectories(t, nil)
	w.user("Bob", "bob@corp.example")
	ann := w.add(adsim.User, "CN=Ann,"+elsewhere, "ann@corp.example")
	w.begin()
	w.must(w.d2.Move(ann, people)) // dc1 gets it in two hours
	config := RetiredConfig{Name: "left", Store: w.store, Now: w.now, Log: w.config.Log,
		HandoverLag: func(string) time.Duration { return 3 * time.Hour }}
	r := NewRetiredDirectory(config)
	if info := w.retirePass(r); !strings.Contains(info.Hold, "replication_lag") || info.Held != 1 {
		t.Errorf("first pass: %+v", info)
	}
	for range 2 { // the second time after a restart
		w.advance(time.Hour)
		if info := w.retirePass(r); info.Number != 0 {
			t.Errorf("another pass commits %+v", info)
		}
		w.wantKnown("ann@corp.example", "bob@corp.example")
		r = NewRetiredDirectory(config)
	}
	w.d.ReplicateFrom(w.d2, 0)
	w.pass(store.Incremental)
	if info := w.retirePass(r); info.Hold != "" || !r.Gone() {
		t.Errorf("when the other one has it: %+v", info)
	}
	w.wantKnown("ann@corp.example", "bob@corp.example")
}

// TestRetiredWaitsNoLonger: no other directory has read the addresses within the lag.
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
