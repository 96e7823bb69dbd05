package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// readBy runs a pass at a domain controller, whose database has its name.
func readBy(t *testing.T, s *Store, kind Kind, at time.Time, controller string, usn uint64, objects ...Object) {
	t.Helper()
	p, err := s.Begin("corp", kind, Origin{Controller: controller, Database: controller, Started: at, Lag: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	for i := range objects {
		objects[i].USN = usn
	}
	_, err = p.Apply(objects)
	if kind == Full {
		err = errors.Join(err, p.Sweep())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), USN: usn, Ended: at}); err != nil {
		t.Fatal(err)
	}
}

// TestDoubtEndsWithProof: the newest commits are lost. What they had read decides which pass ends
// the doubt, also after a restart and if the store has lost the directory as a whole.
func TestDoubtEndsWithProof(t *testing.T) {
	ann, bob := object(t, 1, "ann@x.test"), object(t, 2, "bob@x.test")
	type reading struct {
		kind       Kind
		after      time.Duration // after the store was opened again
		controller string
		usn        uint64
		doubted    bool // after it
	}
	full := func(after time.Duration, controller string, usn uint64, doubted bool) reading {
		return reading{Full, after, controller, usn, doubted}
	}
	changes := func(after time.Duration, controller string, usn uint64, doubted bool) reading {
		return reading{Incremental, after, controller, usn, doubted}
	}
	const soon, later = time.Minute, 2 * time.Hour
	lostAtDC1 := func(s *Store) { readBy(t, s, Incremental, start.Add(time.Minute), "dc1", 20, bob) }
	unfinished := func(s *Store) {
		p, err := s.Begin("corp", Incremental, Origin{Controller: "dc2", Database: "dc2",
			Started: start.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		o := bob
		o.USN = 80
		if _, err := p.Apply([]Object{o}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		lost  func(*Store)
		all   bool // all files are lost, not the newest
		noted bool // the mark has what was read
		then  []reading
	}{
		{"the same database, as far", lostAtDC1, false, true, []reading{full(soon, "dc1", 20, false)}},
		{"the same database, not as far", lostAtDC1, false, true,
			[]reading{full(soon, "dc1", 19, true), changes(soon, "dc1", 25, false)}},
		{"an incremental pass alone", lostAtDC1, false, true,
			[]reading{changes(soon, "dc1", 20, true), full(soon, "dc1", 20, false)}},
		{"another database", lostAtDC1, false, true,
			[]reading{full(soon, "dc2", 90, true), changes(soon, "dc2", 90, true), changes(later, "dc2", 91, false)}},
		{"another database, and back", lostAtDC1, false, true,
			[]reading{full(soon, "dc2", 90, true), full(soon, "dc1", 20, false)}},
		{"no controller: the directory was not configured for a while", lostAtDC1, false, true,
			[]reading{full(later, "", 20, true), full(later, "dc2", 90, false)}},
		{"a pass that did not end, at another database", unfinished, false, true,
			[]reading{full(soon, "dc1", 90, true), full(soon, "dc2", 79, true), full(soon, "dc2", 80, true),
				changes(later, "dc2", 81, false)}},
		{"the mark is of an earlier version", lostAtDC1, false, false,
			[]reading{full(soon, "dc1", 20, true), changes(later, "dc1", 20, false)}},
		{"the directory", lostAtDC1, true, true, []reading{full(soon, "dc2", 90, true), full(soon, "dc1", 20, false)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := start
			config := Config{Dir: t.TempDir(), Now: func() time.Time { return now }}
			s := open(t, config)
			older := t.TempDir()
			readBy(t, s, Full, start, "dc1", 10, ann)
			s = reopen(t, s)
			if !c.all {
				older = copyOf(t, s.config.Dir)
			}
			c.lost(s)
			s.Close()
			restoreMark(t, s.config.Dir, older)
			if !c.noted {
				if err := os.Truncate(filepath.Join(older, commitFileName), int64(commitFileSize)); err != nil {
					t.Fatal(err)
				}
			}
			now = start.Add(10 * time.Minute)
			opened := now
			config.Dir = older
			s = open(t, config)
			for i, r := range c.then {
				now = opened.Add(r.after)
				objects := []Object{ann}
				if r.kind == Incremental {
					objects = nil
				}
				readBy(t, s, r.kind, now, r.controller, r.usn, objects...)
				s = reopen(t, s)
				lookups := r.doubted && r.controller != "" // see TestDoubtOfADirectoryThatLeft
				if d := s.Directory("corp"); (d.Doubt != "") != r.doubted || (s.inDoubt.Load() != nil) != lookups {
					t.Errorf("after pass %d: doubt %q, want one: %t, of lookups: %t", i+1, d.Doubt, r.doubted, lookups)
				}
			}
		})
	}
}

// TestDoubtAfterSetAside: the new store knows how far the damaged one had read.
func TestDoubtAfterSetAside(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		c := serving(t.TempDir())
		c.Now = func() time.Time { return start.Add(time.Minute) }
		s := open(t, c)
		readBy(t, s, Full, start, "dc1", 10, object(t, 1, "ann@x.test"), object(t, 2, "bob@x.test"))
		if restarted {
			s.Close()
			damage(t, c.Dir)
			s = open(t, c)
			s = reopen(t, s) // nothing was written meanwhile
		} else {
			s.markDamaged(errors.New("a test"))
		}
		readBy(t, s, Full, start.Add(2*time.Minute), "dc2", 90, object(t, 1, "ann@x.test"))
		if d := s.Directory("corp"); !strings.Contains(d.Doubt, "set aside") || !d.DoubtRead {
			t.Errorf("after a full pass of another database: %q, read %t", d.Doubt, d.DoubtRead)
		}
		s = reopen(t, s)
		readBy(t, s, Full, start.Add(3*time.Minute), "dc1", 10, object(t, 1, "ann@x.test"), object(t, 2, "bob@x.test"))
		if d := s.Directory("corp"); d.Doubt != "" {
			t.Errorf("after a full pass of the same database: %q", d.Doubt)
		}
	}
}

// TestDoubtFromTheFuture: the clock was ahead when the store was opened. The doubt does not last
// until that time.
func TestDoubtFromTheFuture(t *testing.T) {
	now := start.Add(1000 * time.Hour)
	s := open(t, Config{Dir: t.TempDir(), Now: func() time.Time { return now }})
	readBy(t, s, Full, now, "dc1", 10, object(t, 1, "ann@x.test"))
	s.doubt("older state", nil)
	now = start
	for _, minute := range []int{1, 40, 80} {
		at := start.Add(time.Duration(minute) * time.Minute)
		readBy(t, s, Full, at, "dc2", 10, object(t, 1, "ann@x.test"))
		s = reopen(t, s)
		if d := s.Directory("corp"); (d.Doubt != "") != (minute < 61) {
			t.Errorf("after %d minutes: doubt %q", minute, d.Doubt)
		}
	}
}

// TestDoubtOfADirectoryThatLeft checks that the doubt about a directory that is no longer configured does not defer the
// internal-only recipients of all others until an operator approves what is held of it, and that it counts again when a
// controller of it is read.
func TestDoubtOfADirectoryThatLeft(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Now: func() time.Time { return start.Add(time.Minute) }})
	readBy(t, s, Full, start, "dc1", 10, object(t, 1, "!staff@x.test"))
	pass(t, s, "lab", Full, start, "", object(t, 2, "bob@x.test"))
	s.doubt("older state", nil)
	want := func(when string, doubted bool) {
		t.Helper()
		got, err := s.Lookup(mustParse(t, "staff@x.test"))
		if err != nil || !got.InternalOnly || (got.Doubt != nil) != doubted {
			t.Errorf("%s: %+v, %v, want a doubt: %t", when, got, err, doubted)
		}
	}
	later := start.Add(2 * time.Hour)
	want("after the loss", true)
	retire := func(at time.Time) {
		t.Helper()
		p, err := s.Begin("lab", Full, Origin{Database: "retired", Started: at})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		if err := p.Sweep(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(Outcome{Hold: "too many", Ended: at}); err != nil {
			t.Fatal(err)
		}
	}
	retire(start.Add(time.Minute))
	want("one left, and the other was not read", true)
	readBy(t, s, Full, later, "dc1", 10, object(t, 1, "!staff@x.test"))
	want("the other was read", false)
	s = reopen(t, s)
	want("after a restart", false)
	p, err := s.Begin("lab", Full, Origin{Controller: "dc2", Started: later})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	want("it is read again", true)
	retire(later.Add(time.Minute))
	want("it left again", false)
	pass(t, s, "lab", Full, later.Add(time.Hour), "", object(t, 2, "bob@x.test"))
	want("it was read to the end", false)
	if d := s.Directory("lab"); d.Doubt != "" {
		t.Errorf("it is still in doubt: %s", d.Doubt)
	}
}

// TestMarkSurvivesEncoding: what a mark has is read back; a second part of another commit, or a cut
// one, is unknown, and a damaged first part is damage.
func TestMarkSurvivesEncoding(t *testing.T) {
	c := committed{7, lostReads{"corp": {{"dc1", start, 20}, {"", start, 1 << 40}}, "new": {}}}
	b := c.encode()
	got, err := decodeCommitted(b)
	if err != nil || got.commit != 7 || len(got.reads) != 2 || !slices.Equal(got.reads["corp"], c.reads["corp"]) {
		t.Errorf("%+v, %v", got, err)
	}
	c.commit = 8
	for n := range b {
		got, err := decodeCommitted(append(c.encode()[:min(n, commitFileSize):commitFileSize],
			b[min(n, commitFileSize):n]...))
		if cut := n > 0 && n < commitFileSize; cut != (err != nil) || got.reads != nil || got.commit == 7 {
			t.Errorf("%d bytes: %+v, %v", n, got, err)
		}
	}
}

func FuzzMark(f *testing.F) {
	f.Add(committed{7, lostReads{"corp": {{"dc1", start, 20}}}}.encode())
	f.Add(committed{}.encode())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		if c, err := decodeCommitted(value); err == nil {
			if again, err := decodeCommitted(c.encode()); err != nil || again.commit != c.commit {
				t.Errorf("%+v is read back as %+v, %v", c, again, err)
			}
		}
		doubts, err := decodeDoubts(value, nil)
		if err == nil && len(doubts) > 0 {
			if again, err := decodeDoubts(encodeDoubts(doubts), nil); err != nil || len(again) != len(doubts) {
				t.Errorf("%+v is read back as %+v, %v", doubts, again, err)
			}
		}
	})
}
