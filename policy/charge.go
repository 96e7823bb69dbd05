package policy

import "cmp"

// HarvestLimit counts the addresses that clients guess. Its methods are called
// concurrently.
type HarvestLimit interface {
	// Limited reports whether the network of the query's client is over its limit. It
	// charges nothing.
	Limited(Query) bool
	// Charge counts a recipient for the network of the query's client: one that never
	// existed if unknown is set, otherwise one that exists.
	Charge(q Query, recipient string, unknown bool)
}

// Charge counts a decision for the harvest limit. Decide leaves this to its caller:
// a question without a mail charges nothing. Not charged are domains in mode report,
// verdicts that cannot tell, and addresses that have existed. A list entry that matches
// any number of addresses does not count as known: every client can name one of these.
func (p *Policy) Charge(q Query, d Decision) {
	if p.harvest == nil || d.Mode != ModeEnforce {
		return
	}
	switch {
	case d.Verdict == VerdictUnknown && d.Removed.IsZero():
		p.harvest.Charge(q, p.baseAddress(q, d), true)
	case d.Verdict == VerdictKnown, d.Verdict == VerdictConfirmed, d.Verdict == VerdictAllowlisted && !d.Shared:
		p.harvest.Charge(q, d.Match.String(), false)
	}
}

// baseAddress returns the address that a client guessed, without its extension and in the
// target domain of an alias. Guesses with the same base address count once.
func (p *Policy) baseAddress(q Query, d Decision) string {
	guessed := d.Address
	if !d.JudgedAs.IsZero() {
		guessed = d.JudgedAs
	}
	if base, ok := guessed.WithoutExtension(p.delimiters); ok {
		return base.String()
	}
	return cmp.Or(guessed.String(), q.To())
}
