package store

import (
	"cmp"
	"slices"
	"time"
)

// Tally counts texts that others choose, and keeps the ones that matter: whatever is
// asked of it, it holds no more than twice its size. What it lets go of is counted
// again from nothing when it comes back, so that a count is never too high. The zero
// value holds nothing; make one with newTally.
type Tally struct {
	size int
	rows map[string]*Count
}

// Count is how often one text was refused.
type Count struct {
	Total       int64 // refusals, at least
	WouldRefuse int64 // of these, what mode report kept from being one
	First, Last time.Time
	Network     string // of the client that came last; empty: not known
	Verdict     string // that was last given
}

func newTally(size int) *Tally { return &Tally{size: size, rows: map[string]*Count{}} }

// add counts a refusal under a text; an empty one is not kept.
func (t *Tally) add(text string, c Count) {
	if text == "" {
		return
	}
	row, ok := t.rows[text]
	if !ok {
		if len(t.rows) >= 2*t.size {
			t.prune()
		}
		t.rows[text] = &c
		return
	}
	row.Total += c.Total
	row.WouldRefuse += c.WouldRefuse
	if c.First.Before(row.First) {
		row.First = c.First
	}
	if !c.Last.Before(row.Last) {
		row.Last, row.Network, row.Verdict = c.Last, c.Network, c.Verdict
	}
}

// merge counts what another tally has counted.
func (t *Tally) merge(other *Tally) {
	for text, c := range other.rows {
		t.add(text, *c)
	}
}

// prune keeps as many rows as the tally has room for. Each client network has its
// first row weighed in full, its second by half and so on: one that guesses addresses
// by the thousand pushes out its own, and not the one typing error of somebody else.
func (t *Tally) prune() {
	if len(t.rows) <= t.size {
		return
	}
	ranks := map[string]int64{}
	weight := map[string]float64{}
	all := t.Rows()
	for _, r := range all {
		ranks[r.Network]++
		weight[r.Text] = float64(r.Total) / float64(ranks[r.Network])
	}
	slices.SortStableFunc(all, func(a, b Row) int { return cmp.Compare(weight[b.Text], weight[a.Text]) })
	for _, r := range all[t.size:] {
		delete(t.rows, r.Text)
	}
}

// Row is one text of a Tally with its count.
type Row struct {
	Text string
	Count
}

// Rows lists what is kept: the most frequent first, of equals the latest.
func (t *Tally) Rows() []Row {
	all := make([]Row, 0, len(t.rows))
	for text, c := range t.rows {
		all = append(all, Row{text, *c})
	}
	slices.SortFunc(all, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), b.Last.Compare(a.Last), cmp.Compare(a.Text, b.Text))
	})
	return all
}

func (e *encoder) tally(t *Tally) {
	t.prune()
	rows := t.Rows()
	e.uint(uint64(len(rows)))
	for _, r := range rows {
		e.string(r.Text)
		e.uint(uint64(r.Total))
		e.uint(uint64(r.WouldRefuse))
		e.time(r.First)
		e.time(r.Last)
		e.string(r.Network)
		e.string(r.Verdict)
	}
}

func (d *decoder) tally(size int) *Tally {
	t := newTally(size)
	for range d.count() {
		text := d.string()
		t.add(text, Count{Total: int64(d.uint()), WouldRefuse: int64(d.uint()), First: d.time(), Last: d.time(),
			Network: d.string(), Verdict: d.string()})
	}
	return t
}
