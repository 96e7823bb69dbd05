package web

import (
	"sync"
	"time"

	"rcpt-milter/control"
)

// historyKept is the number of minutes in a History: a day.
const historyKept = 24 * 60

// History counts the recipients judged in each minute of the last day. It samples counters,
// so decisions do no extra work. It is in memory only and has a fixed size. The zero value
// is ready. All methods may be called concurrently.
type History struct {
	mu      sync.Mutex
	minutes [historyKept]Minute // minute m is at index m modulo the length
	last    control.Judged      // counters of the last sample
}

// Minute has the counts of a minute.
type Minute struct {
	Start time.Time
	control.Judged
}

// Observe samples the counters since the start. The difference to the last sample counts for the
// minute of this one.
func (h *History) Observe(at time.Time, now control.Judged) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Total() < h.last.Total() {
		return // a later sample came first
	}
	start := at.Truncate(time.Minute)
	m := &h.minutes[start.Unix()/60%historyKept]
	if !m.Start.Equal(start) {
		*m = Minute{Start: start}
	}
	m.Judged = m.Plus(now.Minus(h.last))
	h.last = now
}

// Sum returns the counts of the day before a time in spans of equal length, oldest first.
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
