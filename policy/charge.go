package policy

import "cmp"

// HarvestLimit counts the addresses that clients guess. Its methods are called
// concurrently.
type HarvestLimit interface {
	// Limited reports whether the network of the query's client is over its limit. It
	// charges nothing.
	Limited(Query) bool
	// Charge counts a recipient for the network of the query's client: one that was rejected
	// if rejected is set, otherwise one that exists.
	Charge(q Query, recipient string, rejected bool)
}

// Charge counts a decision for the harvest limit. Decide leaves this to its caller:
// a question without a mail charges nothing.
//
// Every 5xx is charged alike, so the limit does not tell which rejected addresses exist or have
// existed. A 4xx is not charged: either the daemon cannot tell, or the reply itself says what
// the limit could (in-grace). Domains in mode report are not charged. A list entry that matches
// any number of addresses does not count as known: every client can name one of these.
func (p *Policy) Charge(q Query, d Decision) {
	if p.harvest == nil || d.Mode != ModeEnforce {
		return
	}
	switch {
	case d.Reply.Outcome() == Refused:
		p.harvest.Charge(q, p.baseAddress(q, d), true)
	case d.Verdict == VerdictKnown, d.Verdict == VerdictConfirmed, d.Verdict == VerdictAllowlisted && !d.Shared:
		p.harvest.Charge(q, d.Match.String(), false)
	}
}

// baseAddress returns the address that a client guessed, without its tag and extension and in the
// last target domain of an alias. Guesses with the same base address count once. It depends only on
// what the client wrote.
func (p *Policy) baseAddress(q Query, d Decision) string {
	guessed := d.Address
	if targets := p.AliasTargets(d.Domain); len(targets) > 0 {
		if target := guessed.In(targets[len(targets)-1].Domain); !target.IsZero() {
			guessed = target
		}
	}
	for _, prefix := range p.stripPrefixes { // as setForms does
		if base, tagged := guessed.WithoutTag(prefix); tagged {
			guessed = base
			break
		}
	}
	if base, ok := guessed.WithoutExtension(p.delimiters); ok {
		return base.String()
	}
	return cmp.Or(guessed.String(), q.To())
}
