package mirror

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

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

// TestMoveWithinTheBases checks that no full pass is needed if nothing enters or leaves the scope.
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

// TestMoveDuringAFullPass moves an OU after its objects were read at the old location. They do not appear
// again.
func TestMoveDuringAFullPass(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  bool   // it is the first pass, so the OU is not known
		page   int    // the OU moves before this page
		parent string // original parent of the OU
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

// TestMovesWithoutEnd checks that a full pass during which containers keep moving fails and keeps the known
// addresses.
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
