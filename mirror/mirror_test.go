package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// world is a simulated domain controller, a store, and a mirror between them.
type world struct {
	t      *testing.T
	d      *adsim.Directory
	server *adsim.Server
	store  *store.Store
	dir    string // of the store
	mirror *Mirror
	config Config
	offset atomic.Int64 // of the clock
}

const people = "OU=People,DC=corp,DC=example"

func newWorld(t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	w := &world{t: t}
	w.d = adsim.NewDirectory(adsim.DirectoryConfig{Clock: w.now})
	w.server = adsim.StartTest(t, w.d, adsim.ServerConfig{MaxPageSize: 3})
	w.add(adsim.OU, people)
	w.add(adsim.OU, "OU=Left,DC=corp,DC=example")
	w.openStore(t.TempDir())
	w.config = Config{Name: "corp", Candidates: []Candidate{w.candidate(w.server)}, Poll: time.Minute,
		Full:   24 * time.Hour,
		Limits: Limits{LateAfter: 15 * time.Minute, StaleAfter: 4 * time.Hour}, ReplicationLag: 3 * time.Hour,
		Log: slog.New(slog.DiscardHandler), Now: w.now}
	if change != nil {
		change(w, &w.config)
	}
	w.restart()
	t.Cleanup(func() { w.mirror.Close() })
	return w
}

func (w *world) openStore(dir string) {
	w.t.Helper()
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	w.store, w.dir = s, dir
}

// restartAll ends the process and starts another: a new mirror on the same store, which is opened
// again.
func (w *world) restartAll() {
	w.t.Helper()
	w.mirror.Close()
	w.must(w.store.Close())
	w.openStore(w.dir)
	w.restart()
}

// restart makes a new mirror on the same store.
func (w *world) restart() {
	w.t.Helper()
	if w.mirror != nil {
		w.mirror.Close()
	}
	w.config.Store = w.store
	m, err := New(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mirror = m
}

func (w *world) candidate(s *adsim.Server) Candidate {
	w.t.Helper()
	ca, err := s.WriteCA(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	config := directory.Config{URL: s.URL(), BindDN: s.BindDN(), CAFile: ca, Timeout: 5 * time.Second,
		Password: func() ([]byte, error) { return []byte(s.Password()), nil }}
	return Candidate{Name: s.URL(), Dial: func(ctx context.Context) (Source,
		error) {
		return directory.Dial(ctx, config)
	}}
}

// now is the time of the clock of the mirror and of the first controller.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func (w *world) advance(d time.Duration) { w.offset.Add(int64(d)) }

func (w *world) add(kind adsim.Kind, dn string, addresses ...string) adsim.GUID {
	w.t.Helper()
	attrs := adsim.Attrs{}
	for _, a := range addresses {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], "smtp:"+a)
	}
	guid, err := w.d.Add(kind, dn, attrs)
	if err != nil {
		w.t.Fatal(err)
	}
	return guid
}

func (w *world) user(name string, addresses ...string) adsim.GUID {
	w.t.Helper()
	return w.add(adsim.User, "CN="+name+","+people, addresses...)
}

func (w *world) set(guid adsim.GUID, addresses ...string) {
	w.t.Helper()
	for i, a := range addresses {
		addresses[i] = "smtp:" + a
	}
	w.must(w.d.Modify(guid, adsim.Set("proxyAddresses", addresses...)))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass runs a pass that must succeed and be of this kind.
func (w *world) pass(kind store.Kind) store.PassInfo {
	w.t.Helper()
	r := w.mirror.Pass(w.t.Context(), false)
	if r.Err != nil || r.Info.Kind != kind {
		w.t.Fatalf("%v pass (%s): %v, want a good %v pass", r.Info.Kind, w.mirror.Status().FullReason, r.Err, kind)
	}
	return r.Info
}

func (w *world) known() []string {
	w.t.Helper()
	list := []string{}
	w.must(w.store.Addresses(func(a address.Address, _ bool) error {
		list = append(list, a.String())
		return nil
	}))
	return list
}

func (w *world) knows(address string) bool { return slices.Contains(w.known(), address) }

func (w *world) wantKnown(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.known(); !slices.Equal(got, want) {
		w.t.Errorf("the index knows %q, want %q", got, want)
	}
}

// wantEqual compares the index with the simulated directory.
func (w *world) wantEqual() {
	w.t.Helper()
	w.wantKnown(slices.Collect(maps.Keys(w.d.Owners(w.config.Rules.Bases...)))...)
}

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
	// The same during a full read: from an object that is not read yet to one that was.
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

// TestMovedDuringTheRead moves an address during a pass from an object that is read late to
// one that was read early. The pass sees the loss and not the gain.
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
							touch() // makes two pages of the second read
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
			// A replication partner may still have what the lost days brought.
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
	// dc2 has a copy of the present state, and receives no later changes.
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
	// It returns, and the mirror has no reason to go back to it.
	w.must(w.server.Up())
	w.pass(store.Incremental)
	second.Down()
	if info := w.pass(store.Full); info.Controller != "dc1.corp.example" {
		t.Errorf("after the second controller went: %+v", info)
	}
	w.wantEqual()
}

// TestBrokenFullPassIsMadeUpFor checks that later incremental passes do not leave behind
// what an interrupted full pass wrote.
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

func TestLostConnectionIsMadeAnew(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.server.CutConnections()
	w.user("Bob", "bob@corp.example")
	w.pass(store.Incremental)
	w.wantEqual()
}

func TestBlindToDeletions(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	bob := w.user("Bob", "bob@corp.example")
	w.d.WithholdDeleted(true)
	w.pass(store.Full)
	if s := w.mirror.Status(); !s.DeletedHidden ||
		!strings.Contains(strings.Join(s.GrantCommands, "\n"),
			`"CN=Deleted Objects,DC=corp,DC=example" /G "ACCOUNT:LCRP"`) {
		t.Errorf("status does not say that deletions cannot be seen: %t, %q", s.DeletedHidden, s.GrantCommands)
	}
	w.must(w.d.Delete(bob))
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	w.advance(deletedHiddenFullInterval)
	if info := w.pass(store.Full); !strings.Contains(info.Why, "deleted objects") {
		t.Errorf("full pass because %q", info.Why)
	}
	w.wantEqual()
	w.d.WithholdDeleted(false)
	w.pass(store.Incremental)
	if s := w.mirror.Status(); s.DeletedHidden || len(s.GrantCommands) > 0 {
		t.Error("status still says that deletions cannot be seen")
	}
}

// TestSightComesBack: the passes of an account that could not see deleted objects skipped
// their tombstones. When it can see them, a full pass is required.
func TestSightComesBack(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	bob, cid := w.user("Bob", "bob@corp.example"), w.user("Cid", "cid@corp.example")
	w.pass(store.Full)
	w.d.WithholdDeleted(true)
	w.must(w.d.Delete(bob))
	w.pass(store.Incremental)
	w.must(w.d.Delete(cid))
	w.restart()
	w.pass(store.Incremental)
	w.d.WithholdDeleted(false)
	if info := w.pass(store.Full); !strings.Contains(info.Why, "could not be seen") {
		t.Errorf("full pass because %q", info.Why)
	}
	w.wantEqual()
	w.pass(store.Incremental)
}

func TestMoveAcrossABase(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
	w.add(adsim.OU, "OU=Sales,"+people)
	w.add(adsim.User, "CN=Ann,OU=Sales,"+people, "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.add(adsim.User, "CN=Cid,OU=Left,DC=corp,DC=example", "cid@corp.example")
	w.pass(store.Full)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	sales, err := w.d.Lookup("OU=Sales," + people)
	w.must(err)
	w.must(w.d.Move(sales.GUID, "OU=Left,DC=corp,DC=example"))
	if info := w.pass(store.Full); !strings.Contains(info.Why, "moved") {
		t.Errorf("full pass because %q", info.Why)
	}
	w.wantEqual()
	w.pass(store.Incremental)
}

// TestMoveWithinTheBases needs no full pass, because nothing enters or leaves the scope.
func TestMoveWithinTheBases(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people, "ou=left, dc=corp, dc=example"} })
	w.add(adsim.OU, "OU=Sales,"+people)
	w.add(adsim.User, "CN=Ann,OU=Sales,"+people, "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	sales, err := w.d.Lookup("OU=Sales," + people)
	w.must(err)
	w.must(w.d.Rename(sales.GUID, "Selling"))
	w.pass(store.Incremental)
	w.must(w.d.Move(sales.GUID, "OU=Left,DC=corp,DC=example"))
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	w.must(w.d.Move(sales.GUID, "CN=Users,DC=corp,DC=example"))
	w.pass(store.Full)
	w.wantKnown("bob@corp.example")
}

// TestMoveDuringAFullPass: objects in an OU were read at its old place before it moved, and
// do not appear again.
func TestMoveDuringAFullPass(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  bool   // the first pass, so the OU is unknown
		page   int    // the OU moves before this page
		parent string // of the OU before
	}{
		{"in, after it was read", false, 4, "OU=Left,DC=corp,DC=example"},
		{"in, after it was read, at first", true, 4, "OU=Left,DC=corp,DC=example"},
		{"out, after it was read", false, 4, people},
		{"in, before it was read", true, 2, "CN=Users,DC=corp,DC=example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
			sales := w.add(adsim.OU, "OU=Sales,"+c.parent)
			for i := range 9 {
				w.add(adsim.User, fmt.Sprintf("CN=u%d,OU=Sales,%s", i, c.parent), fmt.Sprintf("u%d@corp.example", i))
			}
			w.user("Bob", "bob@corp.example")
			if !c.first {
				w.pass(store.Full)
			}
			target := people
			if c.parent == people {
				target = "OU=Left,DC=corp,DC=example"
			}
			moved := false
			w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
				if s.Scope == 2 && s.Page == c.page && !moved {
					moved = true
					w.must(w.d.Move(sales, target))
				}
			}})
			for range 2 {
				if r := w.mirror.Pass(t.Context(), !moved); r.Err != nil || !moved {
					t.Fatalf("pass: %v, moved %t", r.Err, moved)
				}
			}
			w.wantEqual()
		})
	}
}

// TestMovesWithoutEnd checks that a full pass during which containers never stop moving
// fails and keeps the known addresses.
func TestMovesWithoutEnd(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
	sales := w.add(adsim.OU, "OU=Sales,"+people)
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	n := 0
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Scope == 2 && s.Page == 1 {
			n++
			w.must(w.d.Move(sales, []string{people, "OU=Left,DC=corp,DC=example"}[n%2]))
		}
	}})
	if r := w.mirror.Pass(t.Context(), true); !errors.Is(r.Err, errContainerMoved) {
		t.Errorf("error %v, want %v", r.Err, errContainerMoved)
	}
	w.wantKnown("bob@corp.example")
	if got := w.server.Stats().Connections; got != 1 {
		t.Errorf("%d connections: the controller is not to blame", got)
	}
	w.server.SetFaults(adsim.Faults{})
	if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
		t.Error(r.Err)
	}
	w.wantEqual()
}

func TestChangedRulesWiden(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
	w.user("Ann", "ann@corp.example")
	w.add(adsim.User, "CN=Cid,OU=Left,DC=corp,DC=example", "cid@corp.example")
	w.pass(store.Full)
	w.mirror.Close()
	w.config.Rules.Bases = nil
	w.restart()
	if got, _ := w.mirror.State(); got != Widening {
		t.Errorf("state with other bases is %v, want %v", got, Widening)
	}
	if info := w.pass(store.Full); !strings.Contains(info.Why, "rules") {
		t.Errorf("full pass because %q", info.Why)
	}
	w.wantEqual()
	if got, _ := w.mirror.State(); got != Fresh {
		t.Errorf("state after the full pass is %v", got)
	}
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
