package real

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// newSoak returns a soak without a harness.
func newSoak(t *testing.T, seed uint64) *Soak {
	t.Helper()
	o := Defaults()
	o.Seed = seed
	s := &Soak{options: o, report: newReport(io.Discard)}
	s.sites = []*site{{name: "mx", daemon: testenv.Milter, mx: testenv.MX, oracle: NewOracle(s.report.began)}}
	for _, service := range []string{testenv.DC, testenv.DC2} {
		proxy, err := testenv.NewProxyOn("127.0.0.1", "127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.Close() })
		s.controllers = append(s.controllers, &controller{service: service, proxy: proxy})
	}
	s.newWorlds()
	return s
}

// TestSameFaults: a seed decides the faults with their parameters, and what each client asks.
func TestSameFaults(t *testing.T) {
	sequence := func(seed uint64) (list []string) {
		s := newSoak(t, seed)
		rnd := s.random("faults")
		for range 100 {
			first := s.draw(rnd)
			list = append(list, first.what, s.draw(rnd, first).what)
		}
		for _, w := range s.worlds {
			for range 20 { // the pool is the same from the beginning
				w.model.Next()
			}
		}
		return list
	}
	one, again, two := sequence(1), sequence(1), sequence(2)
	if !slices.Equal(one, again) {
		t.Error("two soaks with the same seed differ")
	}
	if slices.Equal(one, two) {
		t.Error("soaks with two seeds are equal")
	}
}

// TestKinds: each kind of fault can be drawn, names its parts, and no fault lasts longer than allowed.
func TestKinds(t *testing.T) {
	s := newSoak(t, 1)
	rnd := s.random("kinds")
	for _, k := range kinds() {
		t.Run(strings.ReplaceAll(k.name, " ", "-"), func(t *testing.T) {
			for range 50 {
				f := k.draw(s, rnd)
				if f.what == "" || len(f.parts) == 0 || f.begin == nil || f.hold < 0 || f.hold > s.options.Hold {
					t.Errorf("fault %+v", f)
				}
				if !f.conflicts(f) {
					t.Errorf("%s does not conflict with itself", f.what)
				}
			}
		})
	}
}

// TestNoConflict: at most one container is down at a time, and no two faults hit the same part.
func TestNoConflict(t *testing.T) {
	s := newSoak(t, 3)
	rnd := s.random("conflicts")
	for range 500 {
		first := s.draw(rnd)
		second := s.draw(rnd, first)
		for _, part := range first.parts {
			if slices.Contains(second.parts, part) {
				t.Errorf("%q and %q need %s", first.what, second.what, part)
			}
		}
	}
}

func TestPassed(t *testing.T) {
	since := time.Unix(1000, 0)
	before, after := since.Add(-time.Second), since.Add(time.Second)
	for _, c := range []struct {
		name              string
		state, last       string
		incremental, full testenv.Pass
		want              bool
	}{
		{"incremental", "fresh", "", testenv.Pass{Started: after, Result: "ok"}, testenv.Pass{}, true},
		{"full", "fresh", "", testenv.Pass{}, testenv.Pass{Started: after, Result: "ok"}, true},
		{"began before", "fresh", "", testenv.Pass{Started: before, Result: "ok"},
			testenv.Pass{Started: before, Result: "ok"}, false},
		{"began at the moment", "fresh", "", testenv.Pass{Started: since, Result: "ok"}, testenv.Pass{}, false},
		{"failed", "fresh", "", testenv.Pass{Started: after, Result: "failed"}, testenv.Pass{}, false},
		{"an error since", "fresh", "no route", testenv.Pass{Started: after, Result: "ok"}, testenv.Pass{}, false},
		{"widening", "not_ready", "", testenv.Pass{Started: after, Result: "ok"}, testenv.Pass{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			status := testenv.Status{State: c.state}
			status.Directories = append(status.Directories, testenv.DirectoryStatus{})
			d := &status.Directories[0]
			d.LastError, d.LastIncremental, d.LastFull = c.last, c.incremental, c.full
			if err := passed(status, since); (err == nil) != c.want {
				t.Errorf("passed() = %v, want success %t", err, c.want)
			}
		})
	}
	if err := passed(testenv.Status{State: "fresh"}, since); err == nil {
		t.Error("passed() without a directory = nil")
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct{ name, want, have, text string }{
		{"equal", "a b", "a b", ""},
		{"missing", "a b", "a", "  - b\n"},
		{"more", "a", "a b", "  + b\n"},
		{"both", "a c", "b c", "  - a\n  + b\n"},
		{"empty", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := difference(strings.Fields(c.want), strings.Fields(c.have)); got != c.text {
				t.Errorf("difference() = %q, want %q", got, c.text)
			}
		})
	}
}
