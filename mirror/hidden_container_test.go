package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// hiddenTree returns the tree of pagingWorld below a container whose changes no pass can see.
func (w *world) hiddenTree(how string) (sales adsim.GUID) {
	w.t.Helper()
	if how == "class" {
		w.add(adsim.OU, front)
		w.add(adsim.OU, back)
		sales = w.add(adsim.PrintQueue, "CN=Sales,"+back)
		w.twoTeams("CN=Sales," + back)
		return sales
	}
	sales = w.tree()
	w.d.HideOf(sales, map[string]string{"entry": "objectClass", "USN": "uSNChanged"}[how])
	return sales
}

// twoTeams adds six people to a container, and six to OU=People.
func (w *world) twoTeams(container string) {
	w.t.Helper()
	for i := range 6 {
		w.add(adsim.User, fmt.Sprintf("CN=s%d,%s", i, container), fmt.Sprintf("s%d@corp.example", i))
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
}

// TestHiddenContainerMoves checks that no person is lost below a container that moves while a controller pages
// by position, although no pass can see the move. The account cannot read the container or its uSNChanged, or
// the class of the container is not read.
func TestHiddenContainerMoves(t *testing.T) {
	type at map[int]string // location of the container before each page
	for _, moves := range []struct {
		name string
		to   at
	}{
		{"from behind to in front", at{4: front}},
		{"there and back", at{3: front, 6: back}},
		{"in front while it is read", at{7: front}},
	} {
		for _, how := range []string{"entry", "USN", "class"} {
			for pass, prepare := range map[string]func(w *world){
				"first":              func(*world) {},
				"requested":          func(w *world) { w.pass(store.Full) },
				"of other rules":     func(w *world) { w.pass(store.Full); w.otherRules() },
				"at another replica": func(w *world) { w.pass(store.Full); w.d.NewInvocationID() },
			} {
				t.Run(fmt.Sprintf("%s, hidden %s, %s pass", moves.name, how, pass), func(t *testing.T) {
					t.Parallel()
					var sales adsim.GUID
					happened, on := map[int]bool{}, false
					w := pagingWorld(t, func(w *world, page int) {
						if to := moves.to[page]; on && to != "" && !happened[page] {
							happened[page] = true
							w.must(w.d.Move(sales, to))
						}
					}, func(_ *world, c *Config) { c.Guard.Max = 0 })
					sales = w.hiddenTree(how)
					prepare(w)
					if pass == "at another replica" { // no pass has read this person yet
						w.add(adsim.User, salesDN(w, sales, "CN=New"), "new@corp.example")
					}
					on = true
					if r := w.mirror.Pass(t.Context(), true); r.Err != nil || len(happened) != len(moves.to) {
						t.Fatalf("full pass: %v, %d of %d moves happened", r.Err, len(happened), len(moves.to))
					}
					on = false
					w.wantEqual()
					w.pass(store.Incremental)
					w.wantEqual()
					w.advance(25 * time.Hour)
					w.pass(store.Full)
					w.wantEqual()
				})
			}
		}
	}
}

// otherRules replaces the mirror by one that reads other attributes.
func (w *world) otherRules() {
	w.t.Helper()
	w.config.Rules.Attributes = []string{"mail", "proxyAddresses"}
	w.restart()
}

// salesDN returns the name of an object in a container.
func salesDN(w *world, container adsim.GUID, rdn string) string {
	w.t.Helper()
	e, err := w.d.Get(container)
	w.must(err)
	return rdn + "," + e.DN
}

// TestHiddenContainerLeavesTheBasesAndReturns checks objects below a hidden container that are read while the
// container is outside of the bases. They must keep their addresses if the container is back before the pass
// ends.
func TestHiddenContainerLeavesTheBasesAndReturns(t *testing.T) {
	for _, kind := range []store.Kind{store.Full, store.Incremental} {
		for _, how := range []string{"entry", "USN", "class"} {
			t.Run(fmt.Sprintf("hidden %s, %v pass", how, kind), func(t *testing.T) {
				w := newWorld(t, func(_ *world, c *Config) {
					c.Guard.Max, c.Rules.Bases = 0, []string{people, front, back}
				})
				sales := w.hiddenTree(how)
				w.pass(store.Full)
				if kind == store.Incremental {
					w.touchUsers()
				}
				var out, back bool
				w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
					changes := strings.Contains(s.Filter, "uSNChanged")
					switch {
					case s.Scope != 2 || s.Page != 1:
					case !out && changes == (kind == store.Incremental):
						out = true
						w.must(w.d.Move(sales, "OU=Left,DC=corp,DC=example"))
					case out && !back && changes:
						back = true
						w.must(w.d.Move(sales, "OU=Zone,DC=corp,DC=example"))
					}
				}})
				r := w.mirror.Pass(t.Context(), kind == store.Full)
				if r.Err != nil || r.Info.Kind != kind || !back {
					t.Fatalf("%+v, back %t", r, back)
				}
				w.wantEqual()
				w.pass(store.Incremental)
				w.wantEqual()
			})
		}
	}
}

// TestHiddenContainerCrossesABase checks that the next full pass finds the objects below a hidden container
// that entered the bases between two passes, and those that left.
func TestHiddenContainerCrossesABase(t *testing.T) {
	for _, how := range []string{"entry", "USN", "class"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *Config) { c.Guard.Max, c.Rules.Bases = 0, []string{people, front} })
			sales := w.hiddenTree(how)
			w.pass(store.Full)
			for _, to := range []string{front, back} {
				w.must(w.d.Move(sales, to))
				w.pass(store.Incremental)
				w.advance(25 * time.Hour)
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil || r.Info.Kind != store.Full {
					t.Fatalf("%+v", r)
				}
				w.pass(store.Incremental) // with hidden uSNChanged, removals wait for the next pass
				w.wantEqual()
			}
		})
	}
}

// touchUsers changes all users, so the next incremental pass reads them.
func (w *world) touchUsers() {
	w.t.Helper()
	var users []adsim.GUID
	for e := range w.d.Entries() {
		if e.Kind == adsim.User {
			users = append(users, e.GUID)
		}
	}
	for _, guid := range users {
		w.must(w.d.Touch(guid))
	}
}
