package control

import "rcpt-milter/policy"

// Judged counts recipients by outcome.
type Judged struct {
	Accepted   int64
	ReportOnly int64 // accepted only because the mode is report
	Deferred   int64
	Refused    int64
}

// Total is all of them.
func (j Judged) Total() int64 { return j.Accepted + j.ReportOnly + j.Deferred + j.Refused }

// Plus returns the sum of both.
func (j Judged) Plus(o Judged) Judged {
	return Judged{j.Accepted + o.Accepted, j.ReportOnly + o.ReportOnly, j.Deferred + o.Deferred, j.Refused + o.Refused}
}

// Minus returns the difference of both.
func (j Judged) Minus(o Judged) Judged {
	return j.Plus(Judged{-o.Accepted, -o.ReportOnly, -o.Deferred, -o.Refused})
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
