package control

import (
	"testing"

	"rcpt-milter/policy"
)

// TestJudged: the counts by outcome are what recipients got, also with when_stale: accept.
func TestJudged(t *testing.T) {
	decisions := map[string]int64{"known": 10, "stale": 5, "not-ready": 3, "unknown": 2, "of-a-later-version": 1}
	would := map[string]int64{"unknown": 1, "stale": 1}
	const accept, refuse = policy.FallbackAccept, policy.FallbackRefuse
	for _, c := range []struct {
		name  string
		s     Status
		want  Judged
		stale Outcome // in the table of verdicts
	}{
		{"verdicts", Status{}, Judged{Accepted: 10, Deferred: 7, Refused: 2, ReportOnly: 2}, Deferred},
		{"stale accepts", Status{WhenStale: accept}, Judged{Accepted: 14, Deferred: 3, Refused: 2, ReportOnly: 2},
			Accepted},
		{"stale rejects", Status{WhenStale: refuse}, Judged{Accepted: 10, Deferred: 3, Refused: 6, ReportOnly: 2},
			Refused},
		{"not ready accepts", Status{WhenNotReady: accept}, Judged{Accepted: 13, Deferred: 4, Refused: 2,
			ReportOnly: 2}, Deferred},
		{"outcomes", Status{WhenStale: accept, Outcomes: map[string]int64{"accepted": 1, "refused": 2, "temporary": 3,
			"report-only": 4}}, Judged{Accepted: 1, Refused: 2, Deferred: 3, ReportOnly: 4}, Accepted},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.Decisions, c.s.WouldRefuse = decisions, would
			if got := c.s.Judged(); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			for _, row := range c.s.VerdictRows() {
				if row.Verdict == string(policy.VerdictStale) && row.Outcome != c.stale {
					t.Errorf("the outcome of stale is %s, want %s", row.Outcome, c.stale)
				}
			}
		})
	}
}
