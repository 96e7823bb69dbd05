package mirror

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// restlessLife moves, adds and removes containers and people between the pages of full passes. Some of the
// passes fail.
type restlessLife struct {
	*world
	rnd  *rand.Rand
	made int
	on   bool
}

func (l *restlessLife) entries(kind adsim.Kind) (list []adsim.Entry) {
	for e := range l.d.Entries() {
		if !e.Deleted && e.Kind == kind && !strings.HasPrefix(e.DN, "OU=People,") {
			list = append(list, e)
		}
	}
	return list
}

func pickOne[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// container returns a random container.
func (l *restlessLife) container() string {
	return pickOne(l.rnd, append(l.entries(adsim.OU), adsim.Entry{DN: people},
		adsim.Entry{DN: "CN=Users,DC=corp,DC=example"})).DN
}

// step makes one random change. The simulated directory may reject it.
func (l *restlessLife) step() {
	l.made++
	name := fmt.Sprint("o", l.made)
	ou, user := pickOne(l.rnd, l.entries(adsim.OU)), pickOne(l.rnd, l.entries(adsim.User))
	switch l.rnd.IntN(9) {
	case 0, 1:
		_ = l.d.Move(ou.GUID, l.container())
	case 2:
		_ = l.d.Rename(ou.GUID, pickOne(l.rnd, []string{"A", "M", "Z"})+name)
	case 3:
		_, _ = l.d.Add(adsim.OU, "OU="+name+","+l.container(), nil)
	case 4:
		_ = l.d.Move(user.GUID, l.container())
	case 5:
		l.add(adsim.User, "CN="+name+","+l.container(), name+"@corp.example")
	case 6:
		_ = l.d.Delete(user.GUID)
		l.add(adsim.User, "CN="+name+","+l.container(), name+"@corp.example")
	case 7:
		_ = l.d.Modify(user.GUID, adsim.AddValues("proxyAddresses", "smtp:"+name+"@corp.example"))
	case 8:
		from := pickOne(l.rnd, l.entries(adsim.User))
		if values := from.Attrs["proxyaddresses"]; len(values) > 1 {
			_ = l.d.Modify(user.GUID, adsim.AddValues("proxyAddresses", values[0]))
			_ = l.d.Modify(from.GUID, adsim.RemoveValues("proxyAddresses", values[0]))
		}
	}
}

// TestRestlessLives checks a controller that pages by position. An address must stay known if it existed at the
// last good pass and still exists. At the end, the index must equal the directory.
func TestRestlessLives(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			l := &restlessLife{rnd: rand.New(rand.NewPCG(seed, 0xb12))}
			l.world = pagingWorld(t, func(w *world, _ int) {
				if l.on && l.rnd.IntN(4) == 0 {
					l.step()
				}
				if l.on && l.rnd.IntN(3) == 0 {
					w.advance(time.Duration(l.rnd.IntN(120)) * time.Second)
				}
			}, func(_ *world, c *Config) {
				c.Guard.Max = 0
				if seed%2 == 1 {
					c.Rules.Bases = []string{people, "CN=Users,DC=corp,DC=example"}
				}
			})
			l.tree()
			for range 12 {
				l.step()
			}
			settled := func() []string { return owners(l.world) }
			l.settle()
			for range 4 {
				before := settled()
				l.on = true
				if l.rnd.IntN(3) == 0 {
					l.server.SetFaults(adsim.Faults{OnPage: 1 + l.rnd.IntN(4), CutAfterEntries: 1})
				}
				r := l.mirror.Pass(t.Context(), l.rnd.IntN(2) == 0)
				l.on = false
				l.server.SetFaults(adsim.Faults{})
				now := settled()
				for _, a := range before {
					if slices.Contains(now, a) && !l.knows(a) {
						t.Fatalf("after %+v: %s is unknown", r, a)
					}
				}
				if r.Err != nil && !errors.Is(r.Err, errContainerMoved) && len(l.known()) == 0 {
					t.Fatal(r.Err)
				}
				l.settle()
			}
		})
	}
}

// settle runs passes without changes in between, after which the index must equal the directory.
func (l *restlessLife) settle() {
	l.t.Helper()
	for range 2 {
		if r := l.mirror.Pass(l.t.Context(), false); r.Err != nil {
			l.t.Fatal(r.Err)
		}
	}
	l.advance(26 * time.Hour)
	l.mirror.Pass(l.t.Context(), false)
	l.wantEqual()
	if l.t.Failed() {
		l.t.FailNow()
	}
}
