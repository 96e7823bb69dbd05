package mirror

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// impatient returns a candidate with short time limits. Their length does not affect any result, because the
// calls that they end would never end by themselves.
func (w *world) impatient(s *adsim.Server) Candidate {
	w.t.Helper()
	ca, err := s.WriteCA(w.t.TempDir())
	w.must(err)
	config := directory.Config{URL: s.URL(), BindDN: s.BindDN(), CAFile: ca,
		Timeout: time.Second, Lookup: time.Second, DialTimeout: 2 * time.Second,
		Password: func() ([]byte, error) { return []byte(s.Password()), nil }}
	return Candidate{Name: s.URL(), Dial: func(ctx context.Context) (Source, error) {
		conn, err := directory.Dial(ctx, config)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}}
}

// twin returns a second controller with the current content of the first.
func (w *world) twin() (*adsim.Directory, *adsim.Server) {
	w.t.Helper()
	d := adsim.NewDirectory(adsim.DirectoryConfig{Host: "dc2"})
	return d, adsim.StartTest(w.t, d, adsim.ServerConfig{MaxPageSize: 3})
}

func TestFailoverFromWhateverGoesWrong(t *testing.T) {
	for name, f := range map[string]adsim.Faults{
		"cut in the second page":    {OnPage: 2, CutAfterEntries: 1},
		"cut in mid-entry":          {OnPage: 2, CutAfterBytes: 100},
		"stalls in the second page": {OnPage: 2, StallAfterEntries: 1},
		"searches are not answered": {SilentSearch: true},
		"never ends":                {Endless: true},
		"hangs":                     {Silent: true, SilentAccept: true},
		"busy":                      {SearchResult: 51},
		"unavailable":               {SearchResult: 52},
		"unavailable, binds too":    {SearchResult: 52, BindResult: 52},
		"a referral":                {SearchResult: 10},
		"its own channel binding":   {SearchResult: 52, BindSubCode: "80090346"},
		"no way to check passwords": {SearchResult: 52, BindSubCode: "51f"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d2 *adsim.Directory
			w := newWorld(t, func(w *world, c *Config) {
				var second *adsim.Server
				d2, second = w.twin()
				c.Candidates = []Candidate{w.impatient(w.server), w.impatient(second)}
			})
			w.user("Ann", "ann@corp.example")
			w.pass(store.Full)
			for _, n := range []string{"b", "c", "d", "e", "f"} {
				w.user(n, n+"@corp.example")
			}
			d2.Restore(w.d.Snapshot()) // replication is complete
			d2.NewInvocationID()
			w.server.SetFaults(f)
			info := w.pass(store.Full)
			if info.Controller != "dc2.corp.example" || !strings.Contains(info.Why, "another domain controller") {
				t.Errorf("after the first controller failed: %+v", info)
			}
			// The controller has recovered, but the mirror has no reason to return to it.
			w.server.SetFaults(adsim.Faults{})
			if info := w.pass(store.Incremental); info.Controller != "dc2.corp.example" {
				t.Errorf("the next pass went to %s", info.Controller)
			}
			w.wantEqual()
		})
	}
}

// TestRefusedBindGoesNowhereElse checks that a rejected bind is not repeated at other controllers, because the
// account is the same.
func TestRefusedBindGoesNowhereElse(t *testing.T) {
	var second *adsim.Server
	w := newWorld(t, func(w *world, c *Config) {
		_, second = w.twin()
		c.Candidates = append(c.Candidates, w.candidate(second))
	})
	w.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, directory.ErrCredentials) {
		t.Errorf("error %v, want %v", r.Err, directory.ErrCredentials)
	}
	if got := second.Stats().Connections; got != 0 {
		t.Errorf("%d connections to the second controller after the first one rejected the account", got)
	}
}

// TestAllControllersFail checks that a pass tries each controller once, and that the index does not change.
func TestAllControllersFail(t *testing.T) {
	var second *adsim.Server
	w := newWorld(t, func(w *world, c *Config) {
		_, second = w.twin()
		c.Candidates = append(c.Candidates, w.candidate(second))
	})
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.server.Down()
	second.SetFaults(adsim.Faults{SearchResult: 51})
	r := w.mirror.Pass(t.Context(), false)
	if r.Err == nil || second.Stats().Binds != 1 {
		t.Errorf("error %v, %d binds at the second controller, want one", r.Err, second.Stats().Binds)
	}
	w.wantKnown("ann@corp.example")
	w.must(w.server.Up())
	w.pass(store.Incremental)
}

// TestTombstonesOfAnotherController switches to a controller that lacks what the previous one showed. Its
// tombstone is trusted, unless the controller had the tombstone before we learned the address: the restored
// object may not have been replicated to it yet.
func TestTombstonesOfAnotherController(t *testing.T) {
	var d2 *adsim.Directory
	w := newWorld(t, func(w *world, c *Config) {
		w.d.SetRecycleBin(true)
		d2 = w.d.NewReplica("dc2", 5000)
		c.Candidates = append(c.Candidates, w.candidate(adsim.StartTest(w.t, d2, adsim.ServerConfig{MaxPageSize: 3})))
	})
	w.user("Ann", "ann@corp.example")
	back, leaver := w.user("Back", "back@corp.example"), w.user("Leaver", "leaver@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.advance(time.Minute)
	w.must(w.d.Delete(back))
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "leaver@corp.example")
	// dc1 restores it and adds another object; dc2 receives only the second deletion.
	w.advance(time.Minute)
	w.must(w.d.Undelete(back, ""))
	w.user("New", "new@corp.example")
	w.pass(store.Incremental)
	w.advance(time.Minute)
	w.must(d2.Delete(leaver))
	w.server.Down()
	if info := w.pass(store.Full); info.Controller != "dc2.corp.example" || info.Removed != 1 {
		t.Errorf("after the first controller failed: %+v", info)
	}
	w.wantKnown("ann@corp.example", "back@corp.example", "new@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "back@corp.example", "new@corp.example")
}

func TestRestoredController(t *testing.T) {
	for _, c := range []struct {
		name    string
		restore func(w *world, s *adsim.Snapshot)
		why     string
	}{
		{"with a new invocationId", func(w *world, s *adsim.Snapshot) { w.d.Restore(s); w.d.NewInvocationID() },
			"restored"},
		{"by copying files", func(w *world, s *adsim.Snapshot) { w.d.Restore(s) }, "set back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.user("Ann", "ann@corp.example")
			old := w.d.Snapshot()
			w.pass(store.Full)
			bob := w.user("Bob", "bob@corp.example")
			w.set(bob, "bob@corp.example", "robert@corp.example")
			w.pass(store.Incremental)
			c.restore(w, old)
			if info := w.pass(store.Full); !strings.Contains(info.Why, c.why) {
				t.Errorf("full pass because %q, want %q", info.Why, c.why)
			}
			// A replication partner may still have the changes of the lost days.
			w.wantKnown("ann@corp.example", "bob@corp.example", "robert@corp.example")
			w.pass(store.Incremental)
			w.wantKnown("ann@corp.example", "bob@corp.example", "robert@corp.example")
			w.advance(4 * time.Hour)
			w.pass(store.Incremental)
			w.wantEqual()
		})
	}
}

func TestFailover(t *testing.T) {
	var second *adsim.Server
	var d2 *adsim.Directory
	w := newWorld(t, func(w *world, c *Config) {
		d2 = adsim.NewDirectory(adsim.DirectoryConfig{Host: "dc2"})
		second = adsim.StartTest(w.t, d2, adsim.ServerConfig{})
		c.Candidates = append(c.Candidates, w.candidate(second))
	})
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	// dc2 has a copy of the current state, and receives no later changes.
	host := w.d.Snapshot()
	d2.Restore(host)
	d2.NewInvocationID()
	w.user("Bob", "bob@corp.example")
	w.pass(store.Incremental)
	w.server.Down()
	if info := w.pass(store.Full); info.Controller != "dc2.corp.example" ||
		!strings.Contains(info.Why, "another domain controller") {
		t.Errorf("after the first controller went: %+v", info)
	}
	w.wantKnown("ann@corp.example", "bob@corp.example")
	if got := w.mirror.Status(); got.Controller != "dc2.corp.example" || got.State != Fresh {
		t.Errorf("status: %+v", got)
	}
	// It has recovered, but the mirror has no reason to return to it.
	w.must(w.server.Up())
	w.pass(store.Incremental)
	second.Down()
	if info := w.pass(store.Full); info.Controller != "dc1.corp.example" {
		t.Errorf("after the second controller went: %+v", info)
	}
	w.wantEqual()
}

func TestLostConnectionIsMadeAnew(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.server.CutConnections()
	w.user("Bob", "bob@corp.example")
	w.pass(store.Incremental)
	w.wantEqual()
}

// TestUnsynchronizedController checks that a controller which has not replicated since its start is not read in
// full, because it may lack recipients, and that it keeps the index up to date if it was read before.
func TestUnsynchronizedController(t *testing.T) {
	unsynchronized := adsim.Faults{Unsynchronized: true}
	fails := func(t *testing.T, w *world) {
		t.Helper()
		if r := w.mirror.Pass(t.Context(), false); r.Err == nil || !strings.Contains(r.Err.Error(), "isSynchronized") {
			t.Errorf("pass: %+v, %v, want an error about isSynchronized", r.Info, r.Err)
		}
	}
	t.Run("first pass", func(t *testing.T) {
		w := newWorld(t, nil)
		w.user("Ann", "ann@corp.example")
		w.server.SetFaults(unsynchronized)
		fails(t, w)
		w.wantKnown()
		if state, _ := w.mirror.State(); state != NotReady {
			t.Errorf("state %v, want %v", state, NotReady)
		}
		w.server.SetFaults(adsim.Faults{})
		w.pass(store.Full)
		w.wantEqual()
	})
	t.Run("first pass, another controller", func(t *testing.T) {
		w := newWorld(t, func(w *world, c *Config) {
			d2 := w.d.NewReplica("dc2", 5000)
			w.user("Ann", "ann@corp.example")
			second := adsim.StartTest(t, d2, adsim.ServerConfig{})
			second.SetFaults(unsynchronized)
			c.Candidates = []Candidate{w.candidate(second), w.candidate(w.server)}
		})
		if info := w.pass(store.Full); info.Controller != w.d.HostName() {
			t.Errorf("read from %s", info.Controller)
		}
		w.wantEqual()
	})
	t.Run("followed controller", func(t *testing.T) {
		w := newWorld(t, nil)
		w.user("Ann", "ann@corp.example")
		w.pass(store.Full)
		w.server.SetFaults(unsynchronized)
		w.user("Bob", "bob@corp.example")
		w.pass(store.Incremental)
		w.wantEqual()
		if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Kind != store.Full {
			t.Errorf("requested pass: %+v, %v", r.Info, r.Err)
		}
		w.wantEqual()
	})
	t.Run("restored controller", func(t *testing.T) {
		w := newWorld(t, nil)
		w.user("Ann", "ann@corp.example")
		old := w.d.Snapshot()
		w.user("Bob", "bob@corp.example")
		w.pass(store.Full)
		w.d.Restore(old) // its partners have Bob
		w.d.NewInvocationID()
		w.server.SetFaults(unsynchronized)
		for range 2 {
			fails(t, w)
			w.wantKnown("ann@corp.example", "bob@corp.example")
			w.advance(w.config.ReplicationLag)
		}
		w.server.SetFaults(adsim.Faults{})
		w.user("Bob", "bob@corp.example") // arrives by replication
		w.pass(store.Full)
		w.wantEqual()
	})
	t.Run("set back", func(t *testing.T) { // and, once it has replicated, not to be told from one that was not
		w := newWorld(t, nil)
		ann := w.user("Ann", "ann@corp.example")
		w.pass(store.Full)
		old := w.d.Snapshot()
		for range 10 {
			w.must(w.d.Touch(ann))
		}
		w.pass(store.Incremental)
		w.d.Restore(old)
		w.server.SetFaults(unsynchronized)
		fails(t, w)
		w.server.SetFaults(adsim.Faults{})
		w.user("Carol", "carol@corp.example") // with a USN below the cursor
		for range 20 {
			w.must(w.d.Touch(ann))
		}
		w.pass(store.Full)
		w.wantEqual()
	})
	t.Run("other rules", func(t *testing.T) { // this database was read before
		w := newWorld(t, nil)
		w.user("Ann", "ann@corp.example")
		w.pass(store.Full)
		w.server.SetFaults(unsynchronized)
		w.config.Rules.OmitDisabled = true
		w.restart()
		w.pass(store.Full)
		w.wantEqual()
	})
}
