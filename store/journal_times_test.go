package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// TestCutoff: passes have times in days after the start. The clock then shows day 100, and
// everything older than day 70 may go.
func TestCutoff(t *testing.T) {
	for _, c := range []struct {
		what string
		days []int
		want uint64
	}{
		{"nothing", nil, 0},
		{"all old", []int{1, 2, 69}, 3},
		{"all young", []int{70, 80, 100}, 0},
		{"some of each", []int{1, 69, 70, 99}, 2},
		{"the clock was ahead among the old", []int{1, 3650, 3651, 2, 80}, 4},
		{"the clock was ahead at last", []int{1, 2, 3650, 3651}, 2},
		{"the clock was ahead among the young", []int{1, 80, 3650, 90}, 1},
		{"the clock was ahead from the beginning", []int{3650, 1, 2, 90}, 3},
		{"the clock is ahead of all by a little", []int{1, 2, 100}, 2},
		{"the clock was set back among the young", []int{1, 80, -3650, 90}, 1},
		{"the clock was set back between old and young", []int{1, 2, -3650, -3649, 80}, 2},
		{"the clock was set back among the old", []int{1, -3650, 2, 80}, 3},
		{"the clock was ahead, but not of now", []int{1, 75, 2, 3, 80}, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			cut := cutoff{before: start.Add(70 * day), now: start.Add(100 * day)}
			for i, d := range c.days {
				if !cut.add(uint64(i+1), start.Add(time.Duration(d)*day)) {
					break
				}
			}
			if cut.pass != c.want {
				t.Errorf("cut after pass %d, want %d", cut.pass, c.want)
			}
		})
	}
}

// clocked is a store with a clock that may be wrong.
type clocked struct {
	*Store
	t      *testing.T
	true   time.Time
	wrong  time.Duration
	turns  int
	passes []clockedPass
}

// clockedPass is a pass and the one removal that it wrote to the journal.
type clockedPass struct {
	number  uint64
	true    time.Time
	wrong   time.Duration
	address string
}

func (c *clocked) now() time.Time { return c.true.Add(c.wrong) }

func newClocked(t *testing.T) *clocked {
	c := &clocked{t: t, true: start}
	c.Store = open(t, Config{Dir: t.TempDir(), Now: c.now})
	pass(t, c.Store, "corp", Full, c.now(), "", object(t, 1, "stays@x.test"))
	return c
}

// removal runs two passes: an address comes and goes.
func (c *clocked) removal() {
	c.t.Helper()
	c.turns++
	a := fmt.Sprintf("a%d@x.test", c.turns)
	pass(c.t, c.Store, "corp", Incremental, c.now(), "", object(c.t, 2, a))
	c.true = c.true.Add(time.Second)
	info := pass(c.t, c.Store, "corp", Incremental, c.now(), "", object(c.t, 2))
	c.passes = append(c.passes, clockedPass{info.Number, c.true, c.wrong, a})
}

// kept reports whether row and tombstone of a removal exist. They must exist both or not at all.
func (c *clocked) kept(p clockedPass) bool {
	c.t.Helper()
	d, err := c.Describe(mustParse(c.t, p.address))
	if err != nil || (len(d.History) > 0) == d.Removed.IsZero() {
		c.t.Errorf("%s: %+v, %v", p.address, d, err)
	}
	return !d.Removed.IsZero()
}

// TestRandomClock: at random, the clock jumps years ahead and back, or years back and forth.
// While it is right, pruning deletes exactly what is older than the retention by the order of
// passes, and the guard counts the removals within its window.
func TestRandomClock(t *testing.T) {
	const keep = 30 * day
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 3))
			c := newClocked(t)
			for range 60 {
				c.true = c.true.Add(time.Duration(r.Int64N(int64(4 * day))))
				switch r.IntN(6) {
				case 0:
					c.wrong = time.Duration(1+r.IntN(10)) * year
				case 1:
					c.wrong = -time.Duration(1+r.IntN(10)) * year
				case 2, 3:
					c.wrong = 0
				}
				c.removal()
				if c.wrong != 0 {
					continue // a wrong clock cannot be detected now
				}
				if _, err := c.Prune(c.now().Add(-keep)); err != nil {
					t.Fatal(err)
				}
				c.check(keep)
			}
		})
	}
}

func (c *clocked) check(keep time.Duration) {
	c.t.Helper()
	var old uint64 // passes up to this one are certainly older than the retention
	removed := 0
	for _, p := range c.passes {
		age := c.true.Sub(p.true)
		if p.wrong == 0 && age > keep {
			old = p.number
		}
		if p.wrong == 0 && age < day {
			removed++
		}
	}
	for _, p := range c.passes {
		age, kept := c.true.Sub(p.true), c.kept(p)
		if p.number <= old && kept {
			c.t.Errorf("%s went %v ago (clock wrong by %v) and is kept", p.address, age, p.wrong)
		}
		if age <= keep && !kept {
			c.t.Errorf("%s went %v ago (clock wrong by %v) and is dropped", p.address, age, p.wrong)
		}
	}
	if got, err := c.RemovedBetween("corp", c.now().Add(-day), c.now()); got != removed || err != nil {
		c.t.Errorf("%d addresses went within a day, %v, want %d", got, err, removed)
	}
}

// TestPrunedWhileAhead: rows were pruned while the clock was ahead by years. The journal then
// does not begin years from now, and answers about the past are true.
func TestPrunedWhileAhead(t *testing.T) {
	c := newClocked(t)
	c.true = c.true.Add(day)
	c.removal()
	c.wrong = 10 * year
	c.removal()
	if n, err := c.Prune(c.now().Add(-30 * day)); n != 2 || err != nil {
		t.Fatalf("pruned %d rows, %v", n, err)
	}
	c.wrong = 0
	c.true = c.true.Add(day)
	if from, err := c.JournalFrom(); err != nil || !from.Equal(c.now()) {
		t.Errorf("without a pass since, the journal is whole from %v (%v), want %v", from, err, c.now())
	}
	c.removal()
	since := c.now()
	c.true = c.true.Add(5 * day)
	if from, err := c.JournalFrom(); err != nil || from.After(since) || from.Before(since.Add(-time.Minute)) {
		t.Errorf("the journal is whole from %v (%v), want %v", from, err, since)
	}
	stays := mustParse(t, "stays@x.test")
	if got, err := c.At(stays, c.now().Add(-day)); err != nil || !got.Known {
		t.Errorf("a day ago: %+v, %v", got, err)
	}
	if _, err := c.At(stays, start.Add(time.Hour)); !errors.Is(err, ErrNotKept) {
		t.Errorf("before what is kept: %v", err)
	}
	c.true = c.true.Add(60 * day)
	c.removal()
	if n, err := c.Prune(c.now().Add(-30 * day)); n != 4 || err != nil {
		t.Errorf("pruned %d rows later, %v, want 4", n, err)
	}
}

// TestLearnedWhileAhead: an address was learned, and another one removed, while the clock was
// ahead. Their past is known as far as possible.
func TestLearnedWhileAhead(t *testing.T) {
	c := newClocked(t)
	c.true = c.true.Add(day)
	c.wrong = 10 * year
	pass(t, c.Store, "corp", Incremental, c.now(), "", object(t, 3, "ahead@x.test"))
	pass(t, c.Store, "lab", Full, c.now(), "", object(t, 1, "lab@y.test"))
	c.removal()
	c.wrong = 0
	c.true = c.true.Add(10 * day)
	for text, want := range map[string]bool{"ahead@x.test": true, "stays@x.test": true, "lab@y.test": true,
		c.passes[0].address: false} {
		if got, err := c.At(mustParse(t, text), c.now()); err != nil || got.Known != want {
			t.Errorf("%s: %+v, %v, want known %t", text, got, err, want)
		}
	}
	if d := c.Directory("lab"); !d.ReadBy(c.now()) {
		t.Errorf("a directory first read while the clock was ahead is not read yet: %+v", d)
	}
}

// TestRefusalsOfTheFuture: no sum includes what was refused while the clock was ahead.
func TestRefusalsOfTheFuture(t *testing.T) {
	c := newClocked(t)
	for _, wrong := range []time.Duration{0, 10 * year} {
		c.wrong = wrong
		hour := NewRefusals(c.now())
		hour.AddUnlisted(1, 0)
		if err := c.PutRefusals(hour); err != nil {
			t.Fatal(err)
		}
	}
	c.wrong = 0
	if sum, err := c.RefusalsSince(c.now().Add(-day)); err != nil || sum.Total != 1 {
		t.Errorf("%+v, %v, want 1", sum, err)
	}
}

// TestPruneInBatches: many rows of one pass go in small batches, and other rows stay.
func TestPruneInBatches(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "stays@x.test"))
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", employees(t, 0, 2000)...)
	pass(t, s, "corp", Incremental, start.Add(2*day), "", object(t, 2, "young@x.test"))
	before := s.writer.commits
	if n, err := s.Prune(start.Add(day)); n != 6000 || err != nil {
		t.Errorf("pruned %d rows, %v, want 6000", n, err)
	}
	if n := s.writer.commits - before; n < 6000/writeChunk {
		t.Errorf("in %d commits", n)
	}
	if rows := rowsOf(t, s, JournalQuery{}); len(rows) != 1 {
		t.Errorf("rows left: %q", rows)
	}
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
}
