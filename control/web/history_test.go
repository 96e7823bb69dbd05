package web

import (
	"testing"
	"time"

	"rcpt-milter/control"
)

func TestHistory(t *testing.T) {
	var h History
	at := time.Date(2026, 3, 4, 12, 0, 30, 0, time.UTC)
	var counts control.Judged
	step := func(after time.Duration, accepted, refused, reportOnly, deferred int64) {
		at = at.Add(after)
		counts = counts.Plus(control.Judged{Accepted: accepted, Refused: refused, ReportOnly: reportOnly,
			Deferred: deferred})
		h.Observe(at, counts)
	}
	step(0, 5, 0, 0, 0)
	step(10*time.Second, 1, 2, 3, 4) // the same minute
	step(time.Minute, 0, 7, 0, 0)
	step(23*time.Hour, 1, 0, 0, 0)
	sums := h.Sum(at, 10*time.Minute)
	if len(sums) != 144 || !sums[143].Start.Equal(at.Truncate(10*time.Minute)) {
		t.Fatalf("%d spans, the last from %v", len(sums), sums[len(sums)-1].Start)
	}
	if got, want := sums[143].Judged, (control.Judged{Accepted: 1}); got != want {
		t.Errorf("the last span: %+v, want %+v", got, want)
	}
	if got, want := sums[143-138].Judged, (control.Judged{Accepted: 6, ReportOnly: 3, Deferred: 4,
		Refused: 9}); got != want {
		t.Errorf("the span 23 hours before: %+v, want %+v", got, want)
	}
	var all control.Judged
	for _, m := range sums {
		all = all.Plus(m.Judged)
	}
	if want := (control.Judged{Accepted: 7, ReportOnly: 3, Deferred: 4, Refused: 9}); all != want || all.Total() != 23 {
		t.Errorf("altogether %+v, want %+v", all, want)
	}
	// A day later nothing is left, also where a minute's place is taken again.
	step(24*time.Hour, 2, 0, 0, 0)
	all = control.Judged{}
	for _, m := range h.Sum(at, 10*time.Minute) {
		all = all.Plus(m.Judged)
	}
	if want := (control.Judged{Accepted: 2}); all != want {
		t.Errorf("a day later %+v, want %+v", all, want)
	}
}
