package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/address"
)

// TestPast: the times of owners and losses are hours after the start.
func TestPast(t *testing.T) {
	hour := func(h int) time.Time { return start.Add(time.Duration(h) * time.Hour) }
	owner := func(learned int, internalOnly bool) Owner {
		return Owner{Directory: "corp", GUID: GUID{1}, Learned: hour(learned), InternalOnly: internalOnly}
	}
	gain := func(at int) Event { return Event{Added: true, Time: hour(at), GUID: GUID{2}} }
	loss := func(learned, at int, internalOnly bool) Event {
		return Event{Directory: "corp", Time: hour(at), Learned: hour(learned), GUID: GUID{2},
			InternalOnly: internalOnly}
	}
	closed := func(learned, at int, guid byte) Event {
		return Event{Directory: "corp", Time: hour(at), Learned: hour(learned), GUID: GUID{guid}, OutsideOnly: true}
	}
	opened := func(at int, guid byte) Event {
		return Event{Directory: "corp", Added: true, Time: hour(at), GUID: GUID{guid}, OutsideOnly: true}
	}
	for _, c := range []struct {
		name string
		d    Detail
		at   int
		want string
	}{
		{"never seen", Detail{}, 5, "unknown"},
		{"there before and since", Detail{Owners: []Owner{owner(1, false)}}, 5, "known by 1"},
		{"learned at that moment", Detail{Owners: []Owner{owner(5, false)}}, 5, "known by 1"},
		{"learned later", Detail{Owners: []Owner{owner(6, false)}, History: []Event{gain(6)}}, 5, "unknown"},
		{"learned later by a first full pass", Detail{Owners: []Owner{owner(6, false)}}, 5, "unknown"},
		{"removed since", Detail{Removed: hour(7), History: []Event{loss(1, 7, false)}}, 5, "known by 1"},
		{"removed at that moment", Detail{Removed: hour(5), History: []Event{loss(1, 5, false)}}, 5,
			"unknown, removed in hour 5"},
		{"removed before", Detail{Removed: hour(3), History: []Event{loss(1, 3, false)}}, 5,
			"unknown, removed in hour 3"},
		{"between two lives", Detail{Owners: []Owner{owner(8, false)},
			History: []Event{gain(1), loss(1, 3, false), gain(8)}}, 5, "unknown, removed in hour 3"},
		{"in the second life of three", Detail{Owners: []Owner{owner(8, false)},
			History: []Event{gain(1), loss(1, 2, false), gain(4), loss(4, 7, false), gain(8)}}, 5, "known by 1"},
		{"came and went since", Detail{Removed: hour(9), History: []Event{gain(6), loss(6, 9, false)}}, 5, "unknown"},
		{"moved from one to the other", Detail{Owners: []Owner{owner(4, false)},
			History: []Event{gain(4), loss(1, 6, false)}}, 5, "known by 2"},
		{"internal-only then as now", Detail{Owners: []Owner{owner(1, true)}}, 5, "known by 1, internal-only"},
		{"one of two internal-only", Detail{Owners: []Owner{owner(1, true)}, History: []Event{loss(1, 6, false)}}, 5,
			"known by 2"},
		{"closed since", Detail{Owners: []Owner{owner(1, true)}, History: []Event{closed(1, 7, 1)}}, 5, "known by 1"},
		{"closed before", Detail{Owners: []Owner{owner(1, true)}, History: []Event{closed(1, 3, 1)}}, 5,
			"known by 1, internal-only, removed in hour 3"},
		{"opened since", Detail{Owners: []Owner{owner(1, false)}, History: []Event{opened(7, 1)}}, 5,
			"known by 1, internal-only"},
		{"opened before", Detail{Owners: []Owner{owner(1, false)}, History: []Event{closed(1, 3, 1), opened(4, 1)}},
			5, "known by 1"},
		{"closed and opened since", Detail{Owners: []Owner{owner(1, false)},
			History: []Event{closed(1, 6, 1), opened(7, 1)}}, 5, "known by 1"},
		{"closed since, and gone", Detail{History: []Event{closed(1, 6, 2), loss(1, 7, true)}}, 5, "known by 1"},
		{"closed before, and gone since", Detail{History: []Event{closed(1, 4, 2), loss(1, 7, true)}}, 5,
			"known by 1, internal-only, removed in hour 4"},
		{"one of two closed", Detail{Owners: []Owner{owner(1, true)},
			History: []Event{closed(1, 4, 1), loss(1, 7, false)}}, 5, "known by 2"},
		{"the other one gone", Detail{Owners: []Owner{owner(1, true)}, History: []Event{loss(1, 4, false)}}, 5,
			"known by 1, internal-only, removed in hour 4"},
		{"closed and gone before", Detail{Removed: hour(4), History: []Event{closed(1, 3, 2), loss(1, 4, true)}}, 5,
			"unknown, removed in hour 4"},
		{"internal-only when it went", Detail{History: []Event{loss(1, 6, true)}}, 5, "known by 1, internal-only"},
		{"a loss that does not say since when", Detail{History: []Event{{Time: hour(6)}}}, 5, "known by 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := detailAt(c.d, hour(c.at))
			text := "unknown"
			if got.Known {
				text = fmt.Sprintf("known by %d", len(got.Owners))
			}
			if got.InternalOnly {
				text += ", internal-only"
			}
			if !got.Removed.IsZero() {
				text += fmt.Sprintf(", removed in hour %v", got.Removed.Sub(start).Hours())
			}
			if text != c.want {
				t.Errorf("%s, want %s", text, c.want)
			}
		})
	}
}

// TestAt compares answers about the past with lookups at that time.
func TestAt(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	asked := []string{"a@x.test", "b@x.test", "c@x.test", "d@x.test", "e@x.test", "f@x.test", "never@x.test"}
	said := map[time.Duration]map[string]Presence{}
	for i, step := range []struct {
		dir     string
		kind    Kind
		hold    string
		objects []Object
	}{
		{"corp", Full, "", []Object{object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "c@x.test"),
			object(t, 5, "!e@x.test")}},
		{"corp", Incremental, "", []Object{object(t, 1, "a@x.test"), object(t, 3, "b@x.test")}}, // b moves
		{"corp", Incremental, "too many", []Object{object(t, 2)}},                               // c is held
		{"lab", Full, "", []Object{object(t, 1, "a@x.test", "d@x.test")}},                       // another directory
		{"corp", Incremental, "", []Object{object(t, 3), object(t, 4, "d@x.test")}},             // b and c go
		{"lab", Incremental, "", []Object{object(t, 1, "a@x.test")}},                            // d stays by corp
		{"corp", Full, "", []Object{object(t, 2, "c@x.test")}},                                  // c returns; e, d go
		{"lab", Full, "", []Object{object(t, 1, "b@x.test")}},                                   // a goes, b comes back
		{"corp", Incremental, "", []Object{object(t, 2, "!c@x.test"), object(t, 6, "f@x.test")}},
		{"lab", Incremental, "", []Object{object(t, 1, "b@x.test", "!f@x.test")}},
		{"corp", Incremental, "too many", []Object{object(t, 6, "!f@x.test")}},      // held
		{"corp", Incremental, "", []Object{object(t, 6, "!f@x.test")}},              // f is internal-only now
		{"corp", Incremental, "", []Object{object(t, 2, "c@x.test"), object(t, 6)}}, // c is open again
		{"lab", Incremental, "", []Object{object(t, 1, "b@x.test", "f@x.test")}},    // f too
	} {
		at := time.Duration(i+1) * time.Hour
		pass(t, s, step.dir, step.kind, start.Add(at), step.hold, step.objects...)
		now := at + time.Minute
		said[now] = map[string]Presence{}
		for _, text := range asked {
			got, err := s.Lookup(mustParse(t, text))
			if err != nil {
				t.Fatal(err)
			}
			said[now][text] = got
		}
	}
	s = reopen(t, s)
	compare := func(from time.Duration) {
		t.Helper()
		for at, answers := range said {
			if at < from {
				continue
			}
			for text, want := range answers {
				got, err := s.At(mustParse(t, text), start.Add(at))
				if d := cmp.Diff(want, got.Presence); err != nil || d != "" {
					t.Errorf("%s %v after the start: %v (-said then +said now):\n%s", text, at, err, d)
				}
			}
		}
	}
	compare(0)
	if got, err := s.At(mustParse(t, "b@x.test"), start.Add(2*time.Hour+30*time.Minute)); err != nil ||
		len(got.Owners) != 1 || got.Owners[0].GUID != (GUID{15: 3}) {
		t.Errorf("who owned b@x.test when it had moved: %+v, %v", got.Owners, err)
	}
	for _, c := range []struct {
		at   time.Duration
		want string
	}{{30 * time.Minute, "the first directory was read in full at "}, {-time.Hour, "the first directory was read"}} {
		if _, err := s.At(address.Address{}, start.Add(c.at)); !errors.Is(err, ErrNotKept) ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%v after the start: %v, want %s", c.at, err, c.want)
		}
	}
	if _, err := s.Prune(start.Add(3 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	compare(3 * time.Hour)
	if _, err := s.At(mustParse(t, "a@x.test"), start.Add(2*time.Hour)); !errors.Is(err, ErrNotKept) ||
		!strings.Contains(err.Error(), "the journal begins at ") {
		t.Errorf("before what is kept: %v", err)
	}
	empty := open(t, Config{Dir: t.TempDir()})
	if _, err := empty.At(mustParse(t, "a@x.test"), start); !errors.Is(err, ErrNotKept) ||
		!strings.Contains(err.Error(), "no directory has been read") {
		t.Errorf("an empty store: %v", err)
	}
}

// TestAtDuringPass: an address counts from when it was read, not from the beginning of the pass.
// A full pass may take minutes.
func TestAtDuringPass(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "")
	read := object(t, 1, "ann@late.test")
	read.Read = start.Add(3 * time.Minute)
	pass(t, s, "corp", Incremental, start.Add(time.Minute), "", read)
	for _, c := range []struct {
		name string
		at   time.Duration
		want bool
	}{
		{"before the pass", 30 * time.Second, false},
		{"in the pass, before the reading", 2 * time.Minute, false},
		{"after the reading", 4 * time.Minute, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := start.Add(c.at)
			if got, err := s.At(mustParse(t, "ann@late.test"), at); err != nil || got.Known != c.want {
				t.Errorf("At = %+v, %v; want known %t", got, err, c.want)
			}
			if got, err := s.HadDomain("late.test", at); err != nil || got != c.want {
				t.Errorf("HadDomain = %t, %v; want %t", got, err, c.want)
			}
		})
	}
	history, err := s.History(mustParse(t, "ann@late.test"))
	if err != nil || len(history) != 1 || !history[0].Time.Equal(read.Read) {
		t.Errorf("History = %+v, %v; want one row of %v", history, err, read.Read)
	}
}
