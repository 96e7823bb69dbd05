package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// positioned pages through the tree as Active Directory does with its ancestors index: in index order, from the
// end of the last page, with the state at the time of each page.
type positioned struct {
	Source
	size   int
	before func(page int) // called before each page of the full read
}

func (b positioned) Read(ctx context.Context, since uint64, page func([]directory.Object) error) error {
	if since > 0 {
		return b.Source.Read(ctx, since, page)
	}
	return b.pages(page, b.before, func(page func([]directory.Object) error) error {
		return b.Source.Read(ctx, 0,
			page)
	})
}

func (b positioned) ReadBelow(ctx context.Context, top directory.GUID, page func([]directory.Object) error) error {
	return b.pages(page, func(int) {}, func(page func([]directory.Object) error) error {
		return b.Source.ReadBelow(ctx, top, page)
	})
}

func (b positioned) List(ctx context.Context, page func([]directory.Object) error) error {
	return b.pages(page, func(int) {},
		func(page func([]directory.Object) error) error { return b.Source.List(ctx, page) })
}

func (b positioned) pages(page func([]directory.Object) error, before func(int),
	read func(func([]directory.Object) error) error) error {
	at := ""
	for n := 1; ; n++ {
		before(n)
		var all []directory.Object
		if err := read(func(some []directory.Object) error { all = append(all, some...); return nil }); err != nil {
			return err
		}
		slices.SortFunc(all, func(x, y directory.Object) int {
			return strings.Compare(positionOf(x.DN),
				positionOf(y.DN))
		})
		all = slices.DeleteFunc(all, func(o directory.Object) bool { return positionOf(o.DN) <= at })
		if len(all) == 0 {
			return nil
		}
		all = all[:min(b.size, len(all))]
		if err := page(all); err != nil {
			return err
		}
		at = positionOf(all[len(all)-1].DN)
	}
}

func positionOf(dn string) string {
	parts := strings.Split(dn, ",")
	slices.Reverse(parts)
	return strings.Join(parts, ",") + ","
}

// pagingWorld makes all controllers page by position, and calls a function before each page of a full read.
func pagingWorld(t *testing.T, before func(w *world, page int), change func(*world, *Config)) *world {
	t.Helper()
	return newWorld(t, func(w *world, c *Config) {
		inner := c.Candidates[0]
		c.Guard = usualGuard
		c.Candidates = []Candidate{{Name: "dc1", Dial: func(ctx context.Context) (Source, error) {
			s, err := inner.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return positioned{s, 3, func(page int) { before(w, page) }}, nil
		}}}
		if change != nil {
			change(w, c)
		}
	})
}

// tree adds OU=Sales in OU=Zone, at the end of the index order. It has an OU and six people below it, and
// people before it.
func (w *world) tree() (sales adsim.GUID) {
	w.t.Helper()
	w.add(adsim.OU, "OU=Area,DC=corp,DC=example")
	w.add(adsim.OU, "OU=Zone,DC=corp,DC=example")
	sales = w.add(adsim.OU, "OU=Sales,OU=Zone,DC=corp,DC=example")
	w.add(adsim.OU, "OU=Inner,OU=Sales,OU=Zone,DC=corp,DC=example")
	for i := range 6 {
		below := []string{"", "OU=Inner,"}[i%2]
		w.add(adsim.User, fmt.Sprintf("CN=s%d,%sOU=Sales,OU=Zone,DC=corp,DC=example", i, below),
			fmt.Sprintf("s%d@corp.example", i))
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	return sales
}

const (
	front = "OU=Area,DC=corp,DC=example"
	back  = "OU=Zone,DC=corp,DC=example"
)

// TestMoveDuringAPositionedRead renames containers while a controller pages by position. The objects below them
// must be found, in the first full pass and in later ones.
func TestMoveDuringAPositionedRead(t *testing.T) {
	type at map[int]func(w *world, sales adsim.GUID) error // changes before each page
	move := func(to string) func(*world, adsim.GUID) error {
		return func(w *world, sales adsim.GUID) error { return w.d.Move(sales, to) }
	}
	rename := func(to string) func(*world, adsim.GUID) error {
		return func(w *world, sales adsim.GUID) error { return w.d.Rename(sales, to) }
	}
	for _, c := range []struct {
		name string
		what at
	}{
		{"nothing", at{}},
		{"from behind to in front", at{4: move(front)}},
		{"from in front to behind", at{2: move(front), 5: move(back)}},
		{"there and back", at{3: move(front), 6: move(back)}},
		{"into Users", at{4: move("CN=Users,DC=corp,DC=example")}},
		{"renamed to in front of where it was", at{7: rename("Abc")}},
		{"its parent moves", at{4: func(w *world, _ adsim.GUID) error {
			zone, err := w.d.Lookup(back)
			w.must(err)
			return w.d.Move(zone.GUID, front)
		}}},
		{"it and what is in it", at{4: func(w *world, sales adsim.GUID) error {
			inner, err := w.d.Lookup("OU=Inner,OU=Sales," + back)
			w.must(err)
			w.must(w.d.Move(sales, front))
			return w.d.Move(inner.GUID, people)
		}}},
		{"into a new container", at{4: func(w *world, sales adsim.GUID) error {
			w.add(adsim.OU, "OU=New,"+front)
			return w.d.Move(sales, "OU=New,"+front)
		}}},
		{"a person moves in, and the container away", at{4: func(w *world, sales adsim.GUID) error {
			u5, err := w.d.Lookup("CN=u5," + people)
			w.must(err)
			w.must(w.d.Move(u5.GUID, "OU=Sales,"+back))
			return w.d.Move(sales, front)
		}}},
		{"deleted with all below after it moved", at{4: func(w *world, sales adsim.GUID) error {
			w.must(w.d.Move(sales, front))
			for _, dn := range []string{"CN=s0,OU=Sales,", "CN=s1,OU=Inner,OU=Sales,"} {
				e, err := w.d.Lookup(dn + front)
				w.must(err)
				w.must(w.d.Delete(e.GUID))
			}
			return nil
		}}},
	} {
		for _, first := range []bool{true, false} {
			for _, bases := range [][]string{nil, {people, front}} {
				t.Run(fmt.Sprintf("%s, first %t, bases %t", c.name, first, bases != nil), func(t *testing.T) {
					var sales adsim.GUID
					happened, on := map[int]bool{}, false
					w := pagingWorld(t, func(w *world, page int) {
						if do := c.what[page]; on && do != nil && !happened[page] {
							happened[page] = true
							w.must(do(w, sales))
						}
					}, func(_ *world, c *Config) { c.Rules.Bases, c.Guard.Max = bases, 0 })
					sales = w.tree()
					if !first {
						w.pass(store.Full)
						w.wantEqual()
					}
					on = true
					if r := w.mirror.Pass(t.Context(), true); r.Err != nil || len(happened) != len(c.what) {
						t.Fatalf("full pass: %v, %d of %d things happened", r.Err, len(happened), len(c.what))
					}
					for _, a := range owners(w) {
						if !w.knows(a) {
							t.Errorf("%s is not known after the full pass", a)
						}
					}
					if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
						t.Fatal(r.Err)
					}
					w.wantEqual()
				})
			}
		}
	}
}

func owners(w *world) []string {
	var all []string
	for a := range w.d.Owners(w.config.Rules.Bases...) {
		all = append(all, a)
	}
	return slices.Sorted(slices.Values(all))
}

// TestPersonWithPeopleBelow checks that objects other than containers may also have objects below them.
func TestPersonWithPeopleBelow(t *testing.T) {
	var boss adsim.GUID
	moved := false
	w := pagingWorld(t, func(w *world, page int) {
		if page == 4 && !moved && w.store.Directory("corp").LastFull.Number > 0 {
			moved = true
			w.must(w.d.Move(boss, front))
		}
	}, nil)
	w.tree()
	boss = w.add(adsim.User, "CN=Boss,"+back, "boss@corp.example")
	for i := range 4 {
		w.add(adsim.Contact, fmt.Sprintf("CN=c%d,CN=Boss,%s", i, back), fmt.Sprintf("c%d@corp.example", i))
	}
	w.pass(store.Full)
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil || !moved {
		t.Fatalf("%v, moved %t", r.Err, moved)
	}
	w.wantEqual()
}

// TestMovesWithoutEndStopNothing checks that no full pass completes while containers keep moving. No pass may
// then remove an address, but additions must take effect.
func TestMovesWithoutEndStopNothing(t *testing.T) {
	var sales adsim.GUID
	n, restless := 0, false
	w := pagingWorld(t, func(*world, int) {}, func(_ *world, c *Config) { c.Guard.Max = 0 })
	sales = w.tree()
	w.pass(store.Full)
	before := w.known()
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if restless && s.Scope == 2 && s.Page == 1 && !strings.Contains(s.Filter, "uSNChanged") {
			n++
			w.must(w.d.Move(sales, []string{front, back}[n%2]))
		}
	}})
	restless = true
	for i := range 3 {
		if r := w.mirror.Pass(t.Context(), true); !errors.Is(r.Err, errContainerMoved) {
			t.Fatalf("error %v, want %v", r.Err, errContainerMoved)
		}
		added := fmt.Sprintf("new%d@corp.example", i)
		w.user(fmt.Sprint("New", i), added)
		before = append(before, added)
		w.pass(store.Incremental) // the failed pass was not required: nothing crossed a base
		w.wantKnown(before...)
		w.wantState(Fresh)
	}
	if n < 3*maxMoveRounds {
		t.Errorf("the container moved %d times only", n)
	}
	// A first full pass does not complete either, but it adds addresses.
	w.advance(25 * time.Hour)
	w.user("Later", "later@corp.example")
	w.pass(store.Incremental)
	w.wantKnown(append(before, "later@corp.example")...)
	restless = false
	w.advance(time.Hour)
	w.pass(store.Full)
	w.wantEqual()
}

// TestContainerThatOnlyChanges checks that a container that is edited or added during a full pass costs one
// search below it, and no second full pass.
func TestContainerThatOnlyChanges(t *testing.T) {
	for name, change := range map[string]func(*world, adsim.GUID){
		"edited": func(w *world, sales adsim.GUID) { w.must(w.d.Modify(sales, adsim.Set("description", "x"))) },
		"made":   func(w *world, _ adsim.GUID) { w.add(adsim.OU, "OU=New,"+front) },
	} {
		t.Run(name, func(t *testing.T) {
			var sales adsim.GUID
			pages := 0
			w := pagingWorld(t, func(w *world, page int) {
				if pages++; page == 4 && pages > 4 {
					change(w, sales)
				}
			}, nil)
			sales = w.tree()
			w.pass(store.Full)
			before := pages
			pages = 4
			if r := w.mirror.Pass(t.Context(), true); r.Err != nil {
				t.Fatal(r.Err)
			}
			if more := pages - 4; more > before+1 {
				t.Errorf("%d pages of the full read, %d without the change", more, before)
			}
			w.wantEqual()
		})
	}
}
