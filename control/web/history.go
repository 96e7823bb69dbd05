package web

import (
	"sync"
	"time"

	"rcpt-milter/control"
)

// historyKept is how many minutes a History remembers: a day.
const historyKept = 24 * 60

// History remembers how many recipients were judged in each minute of the last day, for
// a chart. It is fed with counters now and then, which costs the decisions themselves
// nothing. It is in memory only and of one size. The zero value is ready; all methods may
// be called concurrently.
type History struct {
	mu      sync.Mutex
	minutes [historyKept]Minute // the minute m is at m modulo the length
	last    control.Judged      // counters as they were last
}

// Minute is what happened in a minute.
type Minute struct {
	Start time.Time
	control.Judged
}

// Observe takes counters since the start, by verdict. What was counted since the last
// call is of the minute in which this one falls.
func (h *History) Observe(at time.Time, decisions, wouldRefuse map[string]int64) {
	now := control.JudgedOf(control.Status{Decisions: decisions, WouldRefuse: wouldRefuse})
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Total() < h.last.Total() {
		return // somebody who looked later was faster
	}
	start := at.Truncate(time.Minute)
	m := &h.minutes[start.Unix()/60%historyKept]
	if !m.Start.Equal(start) {
		*m = Minute{Start: start}
	}
	m.Judged = m.Plus(now.Minus(h.last))
	h.last = now
}

// Sum adds up the minutes of the day before a time in spans of equal length, oldest
// first. A minute without a judgement counts as one without recipients.
func (h *History) Sum(until time.Time, span time.Duration) []Minute {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := int(historyKept * time.Minute / span)
	end := until.Truncate(span).Add(span)
	sums := make([]Minute, n)
	for i := range sums {
		sums[i].Start = end.Add(time.Duration(i-n) * span)
	}
	for _, m := range h.minutes {
		if i := int(m.Start.Sub(sums[0].Start) / span); !m.Start.Before(sums[0].Start) && i < n {
			sums[i].Judged = sums[i].Plus(m.Judged)
		}
	}
	return sums
}
