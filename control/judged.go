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

// Judged returns the counts of a status by outcome. For an older daemon, without outcomes, it derives them
// from the verdicts.
func (s Status) Judged() Judged {
	if len(s.Outcomes) == 0 {
		return s.judgedByVerdict()
	}
	return JudgedIn(s.Outcomes)
}

// JudgedIn returns the counts of counters by outcome.
func JudgedIn(outcomes map[string]int64) Judged {
	return Judged{Accepted: outcomes[string(Accepted)], ReportOnly: outcomes[string(policy.ReportOnly)],
		Deferred: outcomes[string(Deferred)], Refused: outcomes[string(Refused)]}
}

// judgedByVerdict returns the counts of the verdicts by their present outcomes.
func (s Status) judgedByVerdict() (j Judged) {
	for verdict, n := range s.Decisions {
		reportOnly := s.WouldRefuse[verdict]
		j.ReportOnly += reportOnly
		switch s.outcomeOf(policy.Verdict(verdict)) {
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

// outcomeOf returns the outcome of a verdict with the present when_stale and when_not_ready.
func (s Status) outcomeOf(v policy.Verdict) Outcome {
	state := Stale
	switch v {
	case policy.VerdictStale:
	case policy.VerdictNotReady:
		state = NotReady
	default:
		return v.Outcome()
	}
	switch UnknownIn(state, s.WhenStale, s.WhenNotReady) {
	case UnknownAccepted:
		return Accepted
	case UnknownRejected:
		return Refused
	}
	return Deferred
}
