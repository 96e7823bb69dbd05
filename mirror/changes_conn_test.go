package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestReadingChangesLosesThePosition checks controllers that lose the position of the full read when changes
// are read between its pages: on the same connection, with or without a second one, or on any connection. Full
// passes must complete and, as far as possible, additions must take effect during the pass.
func TestReadingChangesLosesThePosition(t *testing.T) {
	for _, c := range []struct {
		name    string
		single  bool // the controller keeps one position per connection
		any     bool // the controller loses the position whichever connection reads changes
		noDial  bool // no second connection is possible
		another bool // a second connection leads to another database
		early   bool // the addition is known before the end of the pass
		conns   int
	}{
		{name: "it does not", early: true, conns: 1},
		{name: "one position for each connection", single: true, early: true, conns: 2},
		{name: "one position, no second connection", single: true, noDial: true, conns: 1},
		{name: "one position, several controllers of one name", single: true, another: true, conns: 2},
		{name: "reading changes takes too long", any: true, conns: 2},
	} {
		for _, kind := range []string{"first", "due", "required"} {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				other := adsim.NewDirectory(adsim.DirectoryConfig{Host: "dc9"})
				dials := 0
				w := newWorld(t, func(w *world, config *Config) {
					w.server = adsim.StartTest(t, w.d, adsim.ServerConfig{MaxPageSize: 3, OnePagedSearch: c.single})
					inner := w.candidate(w.server)
					second := inner
					if c.another {
						second = w.candidate(adsim.StartTest(t, other, adsim.ServerConfig{}))
					}
					config.Candidates = []Candidate{{Name: "dc1", Dial: func(ctx context.Context) (Source, error) {
						switch dials++; {
						case dials == 1:
							return inner.Dial(ctx)
						case c.noDial:
							return nil, errors.New("no more connections")
						}
						return second.Dial(ctx)
					}}}
				})
				var users []adsim.GUID
				for i := range 30 {
					users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
				}
				if kind != "first" {
					w.pass(store.Full)
					w.advance(25 * time.Hour)
				}
				if kind == "required" {
					w.d.NewInvocationID()
				}
				added, early := 0, false // counts of the last attempt
				w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
					if s.Scope == 2 && c.any && strings.Contains(s.Filter, "uSNChanged") {
						w.server.LoseCookies(1)
					}
					if !onlyFull(s) {
						return
					}
					switch s.Page {
					case 4:
						added++
						w.set(users[0], fmt.Sprintf("new%d@corp.example", added))
						w.advance(2 * w.config.Poll)
					case 6:
						early = w.knows(fmt.Sprintf("new%d@corp.example", added))
					}
				}})
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil || r.Info.Kind != store.Full {
					t.Fatalf("%+v, %v", r, w.mirror.Status().FullError)
				}
				if early != c.early || dials != c.conns && !c.noDial {
					t.Errorf("the addition is known during the pass: %t, %d connections", early, dials)
				}
				w.server.LoseCookies(0)
				w.server.SetFaults(adsim.Faults{})
				w.pass(store.Incremental)
				w.wantEqual()
			})
		}
	}
}
