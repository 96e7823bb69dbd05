package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestAdditionDuringAFullPass checks that an addition during a full pass takes effect within about Poll, for
// every reason of the pass and every position of the object.
func TestAdditionDuringAFullPass(t *testing.T) {
	for name, prepare := range map[string]func(w *world){
		"the first one": func(*world) {},
		"due": func(w *world) {
			w.pass(store.Full)
			w.advance(25 * time.Hour)
		},
		"after a failover": func(w *world) {
			w.pass(store.Full)
			w.d.NewInvocationID()
		},
		"of other rules": func(w *world) {
			w.pass(store.Full)
			w.config.Rules.Attributes = []string{"mail", "proxyAddresses"}
			w.restart()
		},
	} {
		for _, woken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, notified %t", name, woken), func(t *testing.T) {
				w := newWorld(t, func(_ *world, c *Config) {
					if woken {
						c.Poll = time.Hour
					}
				})
				var users []adsim.GUID
				for i := range 30 {
					users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
				}
				w.set(users[1], "u1@corp.example", "desk@corp.example")
				prepare(w)
				w.mirror.debounce = 0
				late := 0 // page before which all additions were known
				w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
					if !onlyFull(s) {
						return
					}
					switch s.Page {
					case 3:
						w.user("New", "new@corp.example")
						w.set(users[0], "u0@corp.example", "more@corp.example")
						w.set(users[29], "u29@corp.example", "desk@corp.example")
						w.set(users[1], "u1@corp.example")
						w.must(w.d.Delete(users[20]))
						w.advance(2 * w.config.Poll)
						if woken {
							w.advance(-2*w.config.Poll + time.Second)
							w.mirror.Wake()
						}
					case 4, 5:
						if late == 0 && w.knows("new@corp.example") && w.knows("more@corp.example") &&
							w.knows("desk@corp.example") {
							late = s.Page
						}
					}
				}})
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil || r.Info.Kind != store.Full {
					t.Fatalf("%+v", r)
				}
				if late != 4 {
					t.Errorf("all that was added before page 3 was known before page %d; at the end %q", late,
						w.known())
				}
				w.server.SetFaults(adsim.Faults{})
				w.pass(store.Incremental)
				w.advance(4 * time.Hour)
				w.pass(store.Incremental)
				w.wantEqual()
			})
		}
	}
}

// TestLossesWaitDuringAFullPass checks that losses during a full pass are left to the next pass.
func TestLossesWaitDuringAFullPass(t *testing.T) {
	w := newWorld(t, nil)
	var users []adsim.GUID
	for i := range 12 {
		users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
	}
	w.pass(store.Full)
	before := w.known()
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if onlyFull(s) && s.Page == 2 {
			w.must(w.d.Delete(users[0]))
			w.set(users[1])
			w.must(w.d.Delete(users[11]))
		}
		w.advance(2 * time.Minute)
	}})
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil {
		t.Fatal(r.Err)
	}
	w.wantKnown(before...)
	w.server.SetFaults(adsim.Faults{})
	w.pass(store.Incremental)
	w.wantEqual()
}

// TestLongFullPassStaysFresh checks that a due or requested full pass may take longer than stale_after.
// Additions are read during the pass, so unknown recipients may be rejected. A full pass that is required has
// no cursor to continue from.
func TestLongFullPassStaysFresh(t *testing.T) {
	for _, c := range []struct {
		name    string
		full    bool
		prepare func(w *world)
		want    State
	}{
		{"due", false, func(w *world) { w.advance(25 * time.Hour) }, Fresh},
		{"asked for", true, func(*world) {}, Fresh},
		{"at another database", false, func(w *world) { w.d.NewInvocationID() }, Stale},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			for i := range 30 {
				w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
			w.pass(store.Full)
			c.prepare(w)
			took, seen := time.Duration(0), map[State]bool{}
			w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
				if !onlyFull(s) || s.Page < 2 {
					return
				}
				state, good := w.mirror.State()
				if status := w.mirror.Status(); seen[state] == false && !status.LastGood.Equal(good) {
					t.Errorf("status says %v, and State counts from %v", status.LastGood, good)
				}
				seen[state] = true
				w.advance(10 * time.Minute)
				took += 10 * time.Minute
			}})
			w.mirror.SetLimits(Limits{LateAfter: 15 * time.Minute, StaleAfter: 30 * time.Minute})
			if r := w.mirror.Pass(t.Context(), c.full); r.Err != nil || r.Info.Kind != store.Full || took < time.Hour {
				t.Fatalf("%+v, took %v", r, took)
			}
			if !seen[c.want] || c.want == Fresh && len(seen) > 1 {
				t.Errorf("states while it read: %v, want %s", seen, c.want)
			}
			w.server.SetFaults(adsim.Faults{})
			w.pass(store.Incremental)
			w.wantState(Fresh)
			w.advance(-2 * time.Hour) // the time of the earlier read is now in the future
			w.pass(store.Full)
			w.wantState(Fresh)
		})
	}
}

// exchanged is a source whose database is replaced.
type exchanged struct {
	Source
	change func(*directory.Root)
}

func (e exchanged) Root(ctx context.Context) (directory.Root, error) {
	root, err := e.Source.Root(ctx)
	e.change(&root)
	return root, err
}

// TestDatabaseExchangedDuringAFullPass checks that the pass fails and is repeated.
func TestDatabaseExchangedDuringAFullPass(t *testing.T) {
	for name, change := range map[string]func(*directory.Root){
		"another invocationId": func(r *directory.Root) { r.InvocationID[0]++ },
		"set back":             func(r *directory.Root) { r.HighestCommittedUSN = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			asked, dials := 0, 0
			w := newWorld(t, func(w *world, c *Config) {
				inner := c.Candidates[0].Dial
				c.Candidates[0].Dial = func(ctx context.Context) (Source, error) {
					s, err := inner(ctx)
					dials++
					return exchanged{s, func(r *directory.Root) {
						if asked++; asked == 2 {
							change(r)
						}
					}}, err
				}
			})
			for i := range 12 {
				w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
			w.server.SetFaults(adsim.Faults{BeforePage: func(adsim.Search) { w.advance(time.Minute) }})
			first := w.mirror.Pass(t.Context(), false)
			if first.Err == nil || w.store.Directory("corp").LastFull.Number != 0 {
				t.Fatalf("the pass is good: %+v", first)
			}
			w.pass(store.Full)
			if dials != 2 {
				t.Errorf("%d connections", dials)
			}
			w.wantEqual()
		})
	}
}

// TestChangesDoNotTakeOver checks that reading changes between pages takes no longer than reading the pages,
// however short Poll is.
func TestChangesDoNotTakeOver(t *testing.T) {
	changes, pages := 0, 0
	w := newWorld(t, func(_ *world, c *Config) { c.Poll = time.Nanosecond })
	for i := range 60 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Scope == 2 && strings.Contains(s.Filter, "uSNChanged") {
			changes++
			w.advance(4 * time.Second)
		} else if s.Scope == 2 {
			pages++
			w.advance(time.Second)
		}
	}})
	w.pass(store.Full)
	if pages < 20 || changes > pages/4+2 {
		t.Errorf("changes were read %d times between %d pages, and each takes four times as long", changes, pages)
	}
	if !slices.Contains(w.known(), "u59@corp.example") {
		t.Error("not everything was read")
	}
}
