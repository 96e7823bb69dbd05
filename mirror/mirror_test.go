package mirror

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

func TestFollowsTheDirectory(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.user("Ann", "ann@corp.example", "a.smith@corp.example")
	bob := w.user("Bob", "bob@corp.example")
	w.add(adsim.Group, "CN=Staff,"+people, "staff@corp.example")
	w.add(adsim.Computer, "CN=PC1,"+people, "pc1@corp.example")
	if got := w.mirror.Status().State; got != NotReady {
		t.Errorf("state before the first pass is %v", got)
	}
	info := w.pass(store.Full)
	if info.Why == "" || info.Added != 4 {
		t.Errorf("first pass: %+v", info)
	}
	w.wantEqual()
	if got := w.mirror.Status(); got.State != Fresh || got.Controller != "dc1.corp.example" || got.DeletedHidden ||
		!got.RootKnown || got.USN != got.HighestUSN {
		t.Errorf("status after the first pass: %+v", got)
	}

	w.user("Cid", "cid@corp.example")
	w.must(w.d.Rename(ann, "Anne"))
	w.set(bob, "bob@corp.example", "robert@corp.example")
	if info := w.pass(store.Incremental); info.Added != 2 || info.Removed != 0 || info.Seen != 3 {
		t.Errorf("additions: %+v", info)
	}
	w.wantEqual()

	w.set(bob, "robert@corp.example")
	w.set(ann)
	w.must(w.d.Move(ann, "OU=Left,DC=corp,DC=example"))
	if info := w.pass(store.Incremental); info.Removed != 3 {
		t.Errorf("lost addresses: %+v", info)
	}
	w.wantEqual()

	w.must(w.d.Delete(bob))
	if info := w.pass(store.Incremental); info.Removed != 1 {
		t.Errorf("a deletion: %+v", info)
	}
	w.wantEqual()
	if info := w.pass(store.Incremental); info.Seen != 0 || info.Changed != 0 {
		t.Errorf("nothing new: %+v", info)
	}
	w.advance(25 * time.Hour)
	if info := w.pass(store.Full); info.Changed != 0 || !strings.Contains(info.Why, "periodic") {
		t.Errorf("periodic full pass: %+v", info)
	}
	if got := w.server.Stats().Connections; got != 1 {
		t.Errorf("%d connections, want one that is kept", got)
	}
}

func TestMovedAddressIsNeverUnknown(t *testing.T) {
	w := newWorld(t, nil)
	ann, bob := w.user("Ann", "team@corp.example"), w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	w.set(ann) // lower USN, so it is read first
	w.set(bob, "bob@corp.example", "team@corp.example")
	w.pass(store.Incremental)
	w.wantEqual()
	// The same during a full read: the address moves from an object that was not yet read to one that was.
	late := w.user("Zoe", "zoe@corp.example", "desk@corp.example")
	w.pass(store.Incremental)
	moved := false
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Scope == 2 && s.Page == 2 && !moved {
			moved = true
			w.set(late, "zoe@corp.example")
			w.set(ann, "desk@corp.example")
		}
	}})
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil || !moved {
		t.Fatalf("full pass: %v, moved %t", r.Err, moved)
	}
	w.wantEqual()
}

// TestMovedDuringTheRead moves an address during a pass from an object that is read late to one that was read
// early. The pass sees the loss but not the gain.
func TestMovedDuringTheRead(t *testing.T) {
	for name, full := range map[string]bool{"incremental": false, "full, in its second read": true} {
		for how, lose := range map[string]func(*world, adsim.GUID) error{
			"removed":  func(w *world, guid adsim.GUID) error { return w.d.Modify(guid, adsim.Set("proxyAddresses")) },
			"deleted":  func(w *world, guid adsim.GUID) error { return w.d.Delete(guid) },
			"disabled": func(w *world, guid adsim.GUID) error { return w.d.SetDisabled(guid, true) },
			"internal": func(w *world, guid adsim.GUID) error {
				return w.d.Modify(guid, adsim.Set("msExchRequireAuthToSendTo", "TRUE"))
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				w := newWorld(t, func(w *world, c *Config) { c.Rules.OmitDisabled, c.Rules.InternalOnly = true, true })
				var users []adsim.GUID
				for i := range 6 {
					users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
				}
				w.set(users[5], "desk@corp.example")
				w.pass(store.Full)
				touch := func() {
					for _, guid := range users {
						w.must(w.d.Touch(guid))
					}
				}
				touch()
				reads, moved := 0, false
				w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
					if s.Scope != 2 || moved {
						return
					}
					if s.Page == 1 {
						if reads++; full && reads == 2 {
							touch() // forces a second page in the second read
						}
					} else if !full || reads == 2 {
						moved = true
						w.set(users[0], "u0@corp.example", "desk@corp.example")
						w.must(lose(w, users[5]))
					}
				}})
				if r := w.mirror.Pass(t.Context(), full); r.Err != nil || !moved {
					t.Fatalf("pass: %v, moved %t", r.Err, moved)
				}
				desk, err := address.Parse("desk@corp.example")
				w.must(err)
				if got, err := w.store.Lookup(desk); err != nil || !got.Known || got.InternalOnly {
					t.Errorf("right after the pass: %+v, %v", got, err)
				}
				w.server.SetFaults(adsim.Faults{})
				w.pass(store.Incremental)
				if got, err := w.store.Describe(desk); err != nil || how != "internal" && len(got.Owners) != 1 ||
					!w.knows("desk@corp.example") {
					t.Errorf("after the next one: %+v, %v", got, err)
				}
			})
		}
	}
}

func TestFailedPassTakesNothingAway(t *testing.T) {
	faults := map[string]adsim.Faults{
		"cut in the second page":    {OnPage: 2, CutAfterEntries: 1},
		"no paging control":         {DropPagingControl: true},
		"busy":                      {SearchResult: 51},
		"a referral":                {SearchResult: 10},
		"an entry without its GUID": {Tamper: func(r adsim.Raw) []byte { return []byte{0x30, 0} }},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			var users []adsim.GUID
			for i := range 8 {
				users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
			}
			w.pass(store.Full)
			before := w.known()
			for _, u := range users[:4] {
				w.must(w.d.Delete(u))
			}
			w.server.SetFaults(f)
			for _, full := range []bool{false, true} {
				r := w.mirror.Pass(t.Context(), full)
				if r.Err == nil {
					t.Fatalf("the pass (full: %t) succeeded", full)
				}
				w.wantKnown(before...)
			}
			if s := w.mirror.Status(); s.LastError == nil || s.FailingSince.IsZero() || s.State != Fresh {
				t.Errorf("status after failures: %+v", s)
			}
			w.server.SetFaults(adsim.Faults{})
			w.pass(store.Incremental)
			w.wantEqual()
			if s := w.mirror.Status(); s.LastError != nil || !s.FailingSince.IsZero() {
				t.Errorf("status after recovery: %+v", s)
			}
		})
	}
}

func TestEmptyAnswerIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, errEmpty) {
		t.Errorf("first full pass without an address: %v", r.Err)
	}
	if got := w.mirror.Status().State; got != NotReady {
		t.Errorf("state %v", got)
	}
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.d.Hide("proxyAddresses", "mail")
	if r := w.mirror.Pass(t.Context(), true); !errors.Is(r.Err, errEmpty) {
		t.Errorf("a full pass in which all addresses are hidden: %v", r.Err)
	}
	w.wantKnown("ann@corp.example")
}

// TestBrokenFullPassIsMadeUpFor checks that later incremental passes clean up after an interrupted full pass.
func TestBrokenFullPassIsMadeUpFor(t *testing.T) {
	prepare := func(t *testing.T, change func(*world, *Config)) (*world, adsim.GUID) {
		w := newWorld(t, change)
		ann := w.user("Ann", "ann@corp.example", "old@corp.example")
		for i := range 6 {
			w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
		}
		return w, ann
	}
	t.Run("of another controller", func(t *testing.T) {
		var d2 *adsim.Directory
		var second *adsim.Server
		w, ann := prepare(t, func(w *world, c *Config) {
			d2, second = w.twin()
			c.Candidates = append(c.Candidates, w.candidate(second))
		})
		d2.Restore(w.d.Snapshot())
		d2.NewInvocationID()
		w.set(ann, "ann@corp.example")
		w.pass(store.Full)
		w.server.Down()
		second.SetFaults(adsim.Faults{OnPage: 3, CutAfterEntries: 1})
		if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
			t.Fatal("the pass succeeded")
		}
		if !slices.Contains(w.known(), "old@corp.example") {
			t.Fatal("the broken pass wrote nothing: this shows nothing")
		}
		second.Down()
		w.must(w.server.Up())
		w.pass(store.Full)
		w.advance(4 * time.Hour) // the other controller may have had more
		w.pass(store.Incremental)
		w.wantEqual()
	})
	t.Run("that saw a move", func(t *testing.T) {
		w, _ := prepare(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
		w.add(adsim.OU, "OU=Sales,OU=Left,DC=corp,DC=example")
		w.add(adsim.User, "CN=Zoe,OU=Sales,OU=Left,DC=corp,DC=example", "zoe@corp.example")
		w.pass(store.Full)
		sales, err := w.d.Lookup("OU=Sales,OU=Left,DC=corp,DC=example")
		w.must(err)
		w.must(w.d.Move(sales.GUID, people))
		w.server.SetFaults(adsim.Faults{OnPage: 5, CutAfterEntries: 1}) // after the OU and before Zoe
		if r := w.mirror.Pass(t.Context(), true); r.Err == nil {
			t.Fatal("the pass succeeded")
		}
		w.server.SetFaults(adsim.Faults{})
		w.pass(store.Full)
		w.wantEqual()
	})
	t.Run("under rules that were taken back", func(t *testing.T) {
		w, _ := prepare(t, func(w *world, c *Config) { c.Rules.Attributes = []string{"proxyAddresses"} })
		w.must(w.d.Modify(w.user("Zoe"), adsim.Set("mail", "zoe@corp.example")))
		w.user("Zack", "zack@corp.example")
		w.user("Zora", "zora@corp.example")
		w.user("Zuse", "zuse@corp.example")
		w.pass(store.Full)
		before := w.known()
		w.config.Rules.Attributes = nil
		w.restart()
		w.server.SetFaults(adsim.Faults{OnPage: 6, CutAfterEntries: 1})
		if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
			t.Fatal("the pass succeeded")
		}
		w.server.SetFaults(adsim.Faults{})
		if len(w.known()) == len(before) {
			t.Fatal("the broken pass wrote nothing: this shows nothing")
		}
		w.config.Rules.Attributes = []string{"proxyAddresses"}
		w.restart()
		w.pass(store.Full)
		w.wantKnown(before...)
	})
}

func TestStates(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	for _, c := range []struct {
		advance time.Duration
		want    State
	}{{0, Fresh}, {14 * time.Minute, Fresh}, {2 * time.Minute, Late}, {4 * time.Hour, Stale}} {
		w.advance(c.advance)
		if got, _ := w.mirror.State(); got != c.want {
			t.Errorf("another %v later the state is %v, want %v", c.advance, got, c.want)
		}
	}
	w.restart()
	if got, _ := w.mirror.State(); got != Stale {
		t.Errorf("after a restart the state is %v", got)
	}
	w.advance(-24 * time.Hour)
	if got, _ := w.mirror.State(); got != Stale {
		t.Errorf("with a clock set back by more than stale_after the state is %v: nobody knows how old the index is",
			got)
	}
	w.pass(store.Full)
	if got, _ := w.mirror.State(); got != Fresh {
		t.Errorf("after a pass the state is %v", got)
	}
}

func TestMissingBase(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people, "OU=Sales,DC=corp,DC=example"} })
	w.user("Ann", "ann@corp.example")
	if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, errBaseMissing) ||
		!strings.Contains(r.Err.Error(), "OU=Sales") {
		t.Errorf("a base that is not there: %v", r.Err)
	}
	w.add(adsim.OU, "OU=Sales,DC=corp,DC=example")
	w.pass(store.Full)
	w.wantEqual()
}
