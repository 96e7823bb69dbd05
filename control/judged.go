package control

import "rcpt-milter/policy"

// Judged counts recipients by outcome.
type Judged struct {
	Accepted   int64
	ReportOnly int64 // accepted only because the mode is report
	Deferred   int64
	Refused    int64
}

// Total returns the sum of all outcomes.
func (j Judged) Total() int64 { return j.Accepted + j.ReportOnly + j.Deferred + j.Refused }

// Plus returns the sum of both.
func (j Judged) Plus(o Judged) Judged {
	return Judged{j.Accepted + o.Accepted, j.ReportOnly + o.ReportOnly, j.Deferred + o.Deferred, j.Refused + o.Refused}
}

// Minus returns the difference of both.
func (j Judged) Minus(o Judged) Judged {
	return j.Plus(Judged{-o.Accepted, -o.ReportOnly, -o.Deferred, -o.Refused})
}

// Judged returns the counts of a status by outcome.
func (s Status) Judged() Judged { return JudgedOf(s.Decisions, s.WouldRefuse) }

// JudgedOf returns the counts by outcome of counters by verdict. If when_stale or
// when_not_ready is not tempfail, the counts of these two verdicts have the wrong outcome.
func JudgedOf(decisions, wouldRefuse map[string]int64) (j Judged) {
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
