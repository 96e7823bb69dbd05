package control

import (
	"sync"
	"time"

	"rcpt-milter/policy"
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
	last    Judged              // counters as they were last
}

// Minute is what happened in a minute.
type Minute struct {
	Start time.Time
	Judged
}

// Judged counts recipients by outcome.
type Judged struct {
	Accepted   int64
	ReportOnly int64 // accepted only because the mode is report
	Deferred   int64
	Refused    int64
}

// Total is all of them.
func (j Judged) Total() int64 { return j.Accepted + j.ReportOnly + j.Deferred + j.Refused }

func (j Judged) plus(o Judged) Judged {
	return Judged{j.Accepted + o.Accepted, j.ReportOnly + o.ReportOnly, j.Deferred + o.Deferred, j.Refused + o.Refused}
}

func (j Judged) minus(o Judged) Judged {
	return j.plus(Judged{-o.Accepted, -o.ReportOnly, -o.Deferred, -o.Refused})
}

// JudgedOf sums up the counters of a status by outcome.
func JudgedOf(s Status) Judged { return judged(s.Decisions, s.WouldRefuse) }

// judged sums up counters by verdict into counts by outcome. With when_stale or
// when_not_ready other than tempfail the counts of these two verdicts have the wrong outcome.
func judged(decisions, wouldRefuse map[string]int64) (j Judged) {
	for verdict, n := range decisions {
		reportOnly := wouldRefuse[verdict]
		j.ReportOnly += reportOnly
		switch policy.Verdict(verdict).Outcome() {
		case policy.Accepted:
			j.Accepted += n - reportOnly
		case policy.Deferred:
			j.Deferred += n - reportOnly
		default:
			j.Refused += n - reportOnly
		}
	}
	return j
}

// Observe takes counters since the start, by verdict. What was counted since the last
// call is of the minute in which this one falls.
func (h *History) Observe(at time.Time, decisions, wouldRefuse map[string]int64) {
	now := judged(decisions, wouldRefuse)
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
	m.Judged = m.plus(now.minus(h.last))
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
			sums[i].Judged = sums[i].plus(m.Judged)
		}
	}
	return sums
}
