package policy

import "cmp"

// HarvestLimit counts the addresses that clients guess. Its methods must be safe for concurrent use.
type HarvestLimit interface {
	// Limited reports whether the network of the query's client is over its limit. It charges nothing.
	Limited(Query) bool
	// Charge counts a recipient for the network of the query's client. rejected tells whether the recipient was
	// rejected or exists.
	Charge(q Query, recipient string, rejected bool)
}

// Charge counts a decision for the harvest limit. Decide leaves this to its caller, so lookups outside of a
// mail transaction charge nothing.
//
// All 5xx replies are charged alike, so the limit does not reveal which rejected addresses exist or have
// existed. A 4xx reply is not charged: either the daemon cannot tell, or the reply itself reveals as much
// (in-grace). Domains in mode report are not charged. An address that only a shared entry matches does not
// count as known, because any client can find such addresses.
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

// baseAddress returns the address that a client guessed, without tag and extension, and in the last target
// domain of an alias. Guesses with the same base address count once. The result depends only on what the client
// sent.
func (p *Policy) baseAddress(q Query, d Decision) string {
	guessed := d.Address
	if targets := p.AliasTargets(d.Domain); len(targets) > 0 {
		if target := guessed.In(targets[len(targets)-1].Domain); !target.IsZero() {
			guessed = target
		}
	}
	for _, prefix := range p.stripPrefixes { // in the order of setForms
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
