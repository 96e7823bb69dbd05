package store

import (
	"cmp"
	"slices"
	"time"
)

// Tally counts texts that clients choose, and keeps the most important ones. It never holds more
// than twice its size, whatever clients send. A text that it drops starts again from zero when
// it comes back, so a count is never too high. The zero value holds nothing; use newTally.
type Tally struct {
	size int
	rows map[string]*Count
}

// Count is how often one text was refused.
type Count struct {
	Total       int64 // refusals, at least
	WouldRefuse int64 // of these, accepted in report mode
	First, Last time.Time
	Network     string // of the last client; empty means unknown
	Verdict     string // the last one
}

func newTally(size int) *Tally { return &Tally{size: size, rows: map[string]*Count{}} }

// add counts a refusal under a text. It ignores an empty text.
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

// merge adds the counts of another tally.
func (t *Tally) merge(other *Tally) {
	for text, c := range other.rows {
		t.add(text, *c)
	}
}

// prune reduces the rows to the size of the tally. For each client network, the first row has
// full weight, the second half, and so on. A client that guesses thousands of addresses
// displaces its own rows, and not a single typing error of another client.
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

// Rows returns the rows, the most frequent first. Among equals the latest is first.
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
