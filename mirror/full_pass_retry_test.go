package mirror

import (
	"bytes"
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

// onlyFull selects the pages of full reads.
func onlyFull(s adsim.Search) bool {
	return s.Scope == 2 && !strings.Contains(s.Filter, "uSNChanged") && slices.Contains(s.Attributes, "uSNChanged")
}

// dueWorld returns a world of eight people. Its first full pass was long ago, so another one is due, and an
// incremental one is possible.
func dueWorld(t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	w := newWorld(t, change)
	for i := range 8 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	w.pass(store.Full)
	w.advance(23 * time.Hour)
	w.pass(store.Incremental)
	w.advance(2 * time.Hour)
	return w
}

// TestDueFullPassThatFails checks that incremental passes continue, whatever prevents a due full pass from
// completing, and however far it gets.
func TestDueFullPassThatFails(t *testing.T) {
	for name, fault := range map[string]func(w *world) adsim.Faults{
		"cut in the second page": func(*world) adsim.Faults { return adsim.Faults{OnPage: 2, CutAfterEntries: 1} },
		"cut, after it wrote something": func(w *world) adsim.Faults {
			n := 0
			return adsim.Faults{OnPage: 2, CutAfterEntries: 1, BeforePage: func(s adsim.Search) {
				if onlyFull(s) && s.Page == 1 {
					n++
					u, err := w.d.Lookup("CN=u0," + people)
					w.must(err)
					w.set(u.GUID, "u0@corp.example", fmt.Sprintf("during%d@corp.example", n))
				}
			}}
		},
		"an entry that cannot be read": func(*world) adsim.Faults {
			return adsim.Faults{Tamper: func(r adsim.Raw) []byte {
				if strings.HasPrefix(r.DN, "CN=u7,") {
					return bytes.Replace(r.Message, []byte("objectGUID"), []byte("objectGUIX"), 1)
				}
				return r.Message
			}}
		},
		"a container moved before it": func(w *world) adsim.Faults {
			n := 0
			return adsim.Faults{OnPage: 2, CutAfterEntries: 1, BeforePage: func(s adsim.Search) {
				if onlyFull(s) && s.Page == 1 {
					n++
					u, err := w.d.Lookup("OU=Left" + strings.Repeat("x", n-1) + ",DC=corp,DC=example")
					w.must(err)
					w.must(w.d.Rename(u.GUID, "Left"+strings.Repeat("x", n)))
				}
			}}
		},
		"it panics": func(*world) adsim.Faults { return adsim.Faults{} },
	} {
		t.Run(name, func(t *testing.T) {
			panics := name == "it panics"
			w := dueWorld(t, func(w *world, c *Config) {
				inner := c.Candidates[0].Dial
				c.Candidates[0].Dial = func(ctx context.Context) (Source, error) {
					s, err := inner(ctx)
					return panicOnRead{s,
						func() bool { return panics && w.store.Directory("corp").LastFull.Number > 0 }}, err
				}
			})
			w.server.SetFaults(fault(w))
			for i := range 10 {
				added := fmt.Sprintf("new%d@corp.example", i)
				w.user(fmt.Sprint("New", i), added)
				w.advance(5 * time.Minute)
				w.pass(store.Incremental)
				if !w.knows(added) {
					t.Fatalf("pass %d: %s is not known (%v)", i, added, w.mirror.Status().LastError)
				}
				w.wantState(Fresh)
			}
			s := w.mirror.Status()
			if s.FullError == nil || s.FullFailingSince.IsZero() || s.LastError == nil ||
				!strings.Contains(s.LastError.Error(), "full pass is due") ||
				s.FullReason != "the periodic full pass is due" {
				t.Errorf("status: %+v", s)
			}
			w.server.SetFaults(adsim.Faults{})
			panics = false
			w.advance(time.Hour)
			w.pass(store.Full)
			w.wantEqual()
			if s := w.mirror.Status(); s.FullError != nil || s.LastError != nil || !s.FullFailingSince.IsZero() {
				t.Errorf("status after it was good: %+v", s)
			}
		})
	}
}

// panicOnRead panics in a full read.
type panicOnRead struct {
	Source
	now func() bool
}

func (p panicOnRead) Read(ctx context.Context, since uint64, page func([]directory.Object) error) error {
	if since == 0 && p.now() {
		panic("a nil map, say")
	}
	return p.Source.Read(ctx, since, page)
}

// TestPeriodicFullPassIsRetried checks that the pauses grow to an hour, but not beyond the interval of full
// passes.
func TestPeriodicFullPassIsRetried(t *testing.T) {
	for _, c := range []struct {
		name  string
		blind bool
		most  int // maximum number of attempts within twelve hours
		least int
	}{
		{"periodic", false, 20, 12},
		{"blind", true, 80, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			attempts := 0
			w := dueWorld(t, func(_ *world, cfg *Config) {
				cfg.Observe.Pass = func(r PassResult) {
					if r.Info.Kind == store.Full && r.Err != nil {
						attempts++
					}
				}
			})
			w.d.WithholdDeleted(c.blind)
			w.server.SetFaults(adsim.Faults{OnPage: 2, CutAfterEntries: 1})
			last, pauses := w.now(), []time.Duration{}
			for range 12 * 60 {
				before := attempts
				w.pass(store.Incremental)
				if attempts > before {
					pauses, last = append(pauses, w.now().Sub(last).Round(time.Minute)), w.now()
				}
				w.advance(time.Minute)
			}
			if attempts > c.most || attempts < c.least {
				t.Errorf("%d attempts in twelve hours, after %v", attempts, pauses)
			}
			w.advance(-10 * time.Hour) // a clock that was set back does not delay an attempt
			before := attempts
			w.pass(store.Incremental)
			if attempts == before {
				t.Error("no attempt after the clock was set back")
			}
		})
	}
}

// TestFullPassThatMustBe checks that retries do not delay a required full pass.
func TestFullPassThatMustBe(t *testing.T) {
	w := dueWorld(t, nil)
	w.server.SetFaults(adsim.Faults{OnPage: 2, CutAfterEntries: 1})
	w.pass(store.Incremental)
	w.config.Rules.Attributes = []string{"mail", "proxyAddresses"}
	w.restart()
	for range 3 {
		if r := w.mirror.Pass(t.Context(), false); r.Err == nil || r.Info.Kind != store.Full {
			t.Errorf("%+v", r)
		}
		w.wantState(Widening)
	}
	w.server.SetFaults(adsim.Faults{})
	w.pass(store.Full)
	w.wantState(Fresh)
}

// TestAskedFullPassThatFails checks that a failed full pass that was requested is not required afterwards,
// because the previous full pass is still valid.
func TestAskedFullPassThatFails(t *testing.T) {
	w := dueWorld(t, nil)
	w.pass(store.Full)
	u, err := w.d.Lookup("CN=u0," + people)
	w.must(err)
	w.set(u.GUID, "u0@corp.example", "second@corp.example")
	w.server.SetFaults(adsim.Faults{OnPage: 3, CutAfterEntries: 1})
	if r := w.mirror.Pass(t.Context(), true); r.Err == nil || !w.knows("second@corp.example") {
		t.Fatalf("the pass is good, or wrote nothing: %+v", r)
	}
	w.pass(store.Incremental)
	w.wantEqual()
}

// TestDueFullPassGoesNowhereElse checks that a due full pass does not change the controller, which would cost
// more than it is worth.
func TestDueFullPassGoesNowhereElse(t *testing.T) {
	var second *adsim.Server
	w := dueWorld(t, func(w *world, c *Config) {
		_, second = w.twin()
		c.Candidates = append(c.Candidates, w.candidate(second))
	})
	w.server.SetFaults(adsim.Faults{OnPage: 2, CutAfterEntries: 1})
	for range 5 {
		w.advance(time.Hour)
		w.pass(store.Incremental)
	}
	if n := second.Stats().Connections; n != 0 {
		t.Errorf("%d connections to the other controller", n)
	}
}
