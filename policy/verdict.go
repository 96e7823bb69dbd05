package policy

// Verdict is the result of a decision, as used in logs, metrics and commands.
type Verdict string

// The verdicts, in the order of the rows that return them.
const (
	VerdictExempt         Verdict = "exempt"
	VerdictAlways         Verdict = "always"
	VerdictNotOurs        Verdict = "not-ours"
	VerdictAllowlisted    Verdict = "allowlisted"
	VerdictDenylisted     Verdict = "denylisted"
	VerdictKnown          Verdict = "known"
	VerdictRestricted     Verdict = "restricted"
	VerdictNotReady       Verdict = "not-ready"
	VerdictInGrace        Verdict = "in-grace"
	VerdictStale          Verdict = "stale"
	VerdictConfirmed      Verdict = "confirmed"
	VerdictHarvestLimited Verdict = "harvest-limited"
	VerdictUnknown        Verdict = "unknown"
	VerdictError          Verdict = "error" // internal error: cannot tell
)

// Outcome is the effect of a reply on a recipient.
type Outcome string

// The outcomes. "temporary" is a value of the field outcome of lookup --json.
const (
	Accepted   Outcome = "accepted"
	Refused    Outcome = "refused"     // 5xx: permanently rejected
	Deferred   Outcome = "temporary"   // 4xx: the client retries
	ReportOnly Outcome = "report-only" // accepted only because the mode is report
)

// outcomes maps each verdict to its outcome in mode enforce. when_stale and when_not_ready can change the
// outcome of rows 7 and 9.
var outcomes = [...]struct {
	verdict Verdict
	outcome Outcome
}{
	{VerdictExempt, Accepted},
	{VerdictAlways, Accepted},
	{VerdictNotOurs, Accepted},
	{VerdictAllowlisted, Accepted},
	{VerdictDenylisted, Refused},
	{VerdictKnown, Accepted},
	{VerdictRestricted, Refused},
	{VerdictNotReady, Deferred},
	{VerdictInGrace, Deferred},
	{VerdictStale, Deferred},
	{VerdictConfirmed, Accepted},
	{VerdictHarvestLimited, Deferred},
	{VerdictUnknown, Refused},
	{VerdictError, Deferred},
}

// Verdicts returns all verdicts, in the order of the decision table.
func Verdicts() []Verdict {
	all := make([]Verdict, len(outcomes))
	for i, o := range outcomes {
		all[i] = o.verdict
	}
	return all
}

// Outcome returns the outcome of a verdict in mode enforce. An unknown verdict, such as that of another
// version, counts as Refused.
func (v Verdict) Outcome() Outcome {
	for _, o := range outcomes {
		if o.verdict == v {
			return o.outcome
		}
	}
	return Refused
}

// Outcome returns the effect of the decision.
func (d Decision) Outcome() Outcome {
	if d.WouldRefuse {
		return ReportOnly
	}
	return d.Reply.Outcome()
}

// Enforced returns the reply in mode enforce.
func (d Decision) Enforced() Reply {
	if d.WouldRefuse {
		return d.WouldReply
	}
	return d.Reply
}
