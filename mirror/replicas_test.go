package mirror

import (
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// two returns a world whose second candidate is a replica of the first.
func two(t *testing.T, change func(*world, *Config)) (*world, *adsim.Directory, *adsim.Server) {
	var d2 *adsim.Directory
	var s2 *adsim.Server
	w := newWorld(t, func(w *world, c *Config) {
		w.d.SetRecycleBin(true)
		d2 = w.d.NewReplica("dc2", 5000)
		s2 = adsim.StartTest(w.t, d2, adsim.ServerConfig{MaxPageSize: 3})
		c.Candidates = append(c.Candidates, w.candidate(s2))
		if change != nil {
			change(w, c)
		}
	})
	return w, d2, s2
}

// TestUndeletedBetweenTwoPasses deletes and restores an object between two passes at dc1. dc2, which takes
// over, has only the deletion.
func TestUndeletedBetweenTwoPasses(t *testing.T) {
	w, d2, _ := two(t, nil)
	w.user("Ann", "ann@corp.example")
	back := w.user("Back", "back@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.advance(24 * time.Minute)
	w.must(w.d.Delete(back))
	d2.ReplicateFrom(w.d, 0)
	w.advance(time.Minute)
	w.must(w.d.Undelete(back, ""))
	w.pass(store.Incremental) // sees it present
	w.advance(time.Minute)
	w.pass(store.Incremental)
	w.server.Down()
	w.pass(store.Full)
	w.wantKnown("ann@corp.example", "back@corp.example")
}

// TestAddressBackBetweenTwoPasses removes and restores one address of an existing object in the same way.
func TestAddressBackBetweenTwoPasses(t *testing.T) {
	w, d2, _ := two(t, nil)
	ann := w.user("Ann", "ann@corp.example", "a2@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.advance(5 * time.Hour)
	w.set(ann, "ann@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.set(ann, "ann@corp.example", "a2@corp.example")
	w.pass(store.Incremental)
	w.server.Down()
	w.pass(store.Full)
	w.wantKnown("a2@corp.example", "ann@corp.example")
}

// TestSeenAtTheOtherController checks that an address that dc2 restored is not lost when dc1, which does not
// have the change, takes over again.
func TestSeenAtTheOtherController(t *testing.T) {
	w, d2, s2 := two(t, nil)
	ann := w.user("Ann", "ann@corp.example", "a2@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.advance(time.Hour)
	w.server.Down()
	w.set(ann, "ann@corp.example") // at dc1, by mistake, while we cannot reach it
	d2.ReplicateFrom(w.d, 0)
	w.must(d2.Modify(ann, adsim.Set("proxyAddresses", "smtp:ann@corp.example",
		"smtp:a2@corp.example"))) // corrected at dc2
	w.pass(store.Full)
	w.wantKnown("a2@corp.example", "ann@corp.example")
	w.advance(time.Minute)
	w.must(w.server.Up())
	s2.Down()
	w.pass(store.Full)
	w.wantKnown("a2@corp.example", "ann@corp.example")
}

// TestSetBackWhileNotFollowed sets dc1 back while dc2 is followed, and lets dc1 take over again.
func TestSetBackWhileNotFollowed(t *testing.T) {
	w, d2, s2 := two(t, nil)
	w.user("Ann", "ann@corp.example")
	before := w.d.Snapshot()
	w.user("New", "new@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.advance(time.Minute)
	w.server.Down()
	w.pass(store.Full) // at dc2
	w.wantKnown("ann@corp.example", "new@corp.example")
	w.d.Restore(before)
	w.must(w.server.Up())
	s2.Down()
	w.advance(time.Minute)
	w.pass(store.Full) // at dc1
	w.wantKnown("ann@corp.example", "new@corp.example")
}

// TestOtherDomain changes the urls of a directory to another domain.
func TestOtherDomain(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	other := adsim.NewDirectory(adsim.DirectoryConfig{Domain: "new.example", Host: "dc9", Clock: w.now})
	s := adsim.StartTest(t, other, adsim.ServerConfig{MaxPageSize: 3})
	w.config.Candidates = []Candidate{w.candidate(s)}
	_, err := other.Add(adsim.User, "CN=Eve,CN=Users,"+other.BaseDN(),
		adsim.Attrs{"proxyAddresses": {"smtp:eve@corp.example"}})
	w.must(err)
	w.restart()
	var during State
	s.SetFaults(adsim.Faults{BeforePage: func(q adsim.Search) {
		if q.Scope == 2 && q.Page == 1 {
			during, _ = w.mirror.State()
		}
	}})
	w.pass(store.Full)
	if during == Fresh {
		t.Errorf("while a domain that was never read is read, the state is %s", during)
	}
}

// TestTombstoneOverTwoHops lets the old tombstone reach dc2 through dc3, after dc1 has restored the object.
func TestTombstoneOverTwoHops(t *testing.T) {
	w, d2, _ := two(t, nil)
	d3 := w.d.NewReplica("dc3", 9000)
	w.user("Ann", "ann@corp.example")
	back := w.user("Back", "back@corp.example")
	d3.ReplicateFrom(w.d, 0)
	d2.ReplicateFrom(d3, 0)
	w.pass(store.Full)
	w.advance(time.Minute)
	w.must(w.d.Delete(back))
	w.pass(store.Incremental)
	d3.ReplicateFrom(w.d, 0) // dc3 receives the deletion
	w.advance(time.Minute)
	w.must(w.d.Undelete(back, ""))
	w.pass(store.Incremental) // learned again from dc1
	w.wantKnown("ann@corp.example", "back@corp.example")
	w.advance(time.Minute)
	d2.ReplicateFrom(d3, 0) // dc2 receives the deletion only now
	w.advance(time.Minute)
	w.pass(store.Incremental) // dc1 still has it, at a later time
	w.server.Down()
	w.pass(store.Full)
	w.wantKnown("ann@corp.example", "back@corp.example")
}
