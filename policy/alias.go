package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"rcpt-milter/address"
)

// MaxTargets limits the targets that are looked up for one alias, over all its steps.
const MaxTargets = 16

// aliasedByKey is the value of AliasedBy for an alias in the configuration.
const aliasedByKey = "domain_aliases"

// AliasTable is a Table that also maps whole domains to others, like a line "@example.net @example.test" in
// virtual(5). Its Find method does not match all recipients of such a domain.
type AliasTable interface {
	Table
	// Aliases calls visit for each canonical domain that the table maps domain to, with the file and line of the
	// entry.
	Aliases(domain string, visit func(target, file string, line int))
}

// AliasTarget is a domain in which the recipients of an alias domain are looked up.
type AliasTarget struct {
	Domain string // canonical
	By     string // domain_aliases, or the file and line of the entry
	// Foreign reports that an accept file maps to a domain that is not ours, or that this target exceeds
	// MaxTargets. The index cannot answer for such a target, so every recipient of the alias is accepted.
	Foreign bool
	// Alias reports that the target is itself an alias. The index may have no address in it.
	Alias bool
}

// canonicalAliases returns the configured domain aliases in canonical form. It returns an error if an alias is
// configured in two spellings, or leads back to itself.
func canonicalAliases(configured map[string]string) (map[string]string, error) {
	aliases := make(map[string]string, len(configured))
	for _, text := range slices.Sorted(maps.Keys(configured)) {
		alias, err := address.ParseDomain(text)
		if err != nil {
			return nil, fmt.Errorf("domain alias %q: %w", text, err)
		}
		target, err := address.ParseDomain(configured[text])
		if err != nil {
			return nil, fmt.Errorf("domain alias %q: target %q: %w", text, configured[text], err)
		}
		if _, twice := aliases[alias]; twice {
			return nil, fmt.Errorf("domain alias %q is configured twice, perhaps in another spelling; keep one", alias)
		}
		aliases[alias] = target
	}
	for _, alias := range slices.Sorted(maps.Keys(aliases)) {
		if _, loop := address.AliasChain(aliases, alias); loop {
			return nil, fmt.Errorf("domain alias %q leads back to itself; remove it", alias)
		}
	}
	return aliases, nil
}

// AliasTargets returns the target domains of a canonical domain, from the configuration and from the accept
// files. An alias of an alias has the targets of both. A domain that is not an alias has none.
func (p *Policy) AliasTargets(domain string) []AliasTarget {
	if len(p.aliasSteps(domain)) == 0 { // the common case; it allocates nothing
		return nil
	}
	var all []AliasTarget
	for target, alias := range address.FollowAliases(domain, p.aliasSteps, AliasTarget.domain) {
		target.Alias = alias
		target.Foreign = target.Foreign || len(all) == MaxTargets
		if all = append(all, target); len(all) > MaxTargets {
			break
		}
	}
	return all
}

func (t AliasTarget) domain() string { return t.Domain }

// aliasSteps returns the direct targets of a domain.
func (p *Policy) aliasSteps(domain string) []AliasTarget {
	var all []AliasTarget
	if target, configured := p.aliases[domain]; configured {
		all = append(all, AliasTarget{Domain: target, By: aliasedByKey})
	}
	if table, maps := p.lists.files.(AliasTable); maps {
		table.Aliases(domain, func(target, file string, line int) {
			all = append(all, AliasTarget{Domain: target, By: place(file, line), Foreign: p.mode(target) == ModePass})
		})
	}
	return all
}

// decideAliased evaluates a recipient as written and as the same local part in each target domain. Most
// recipients of an alias are in the index under a target domain, so the directories are searched only if no
// form is accepted without a search.
func (p *Policy) decideAliased(ctx context.Context, q Query, r recipient, targets []AliasTarget) Decision {
	r.unconfirmed = true
	r.aliased = slices.ContainsFunc(targets, func(t AliasTarget) bool { return !t.Alias })
	d := p.mostLenient(ctx, q, r, targets)
	if p.confirm == nil || d.Reply.IsContinue() {
		return d
	}
	r.unconfirmed = false
	return p.mostLenient(ctx, q, r, targets)
}

// mostLenient returns the most lenient of the decisions about the forms of a recipient, because an address is
// valid if any of its forms is valid. An entry in refuse that matches the recipient as written is final.
func (p *Policy) mostLenient(ctx context.Context, q Query, r recipient, targets []AliasTarget) Decision {
	asWritten := r
	verdict, _ := p.lists.find(&asWritten)
	r.refused, r.baseRefused = verdict == VerdictDenylisted, asWritten.baseRefused
	best := p.decide(ctx, q, r)
	for _, target := range targets {
		if best.Reply.IsContinue() {
			break
		}
		at := p.recipientAt(r, target.Domain)
		at.aliased = r.aliased && target.Alias
		if r.readable() && !at.readable() {
			continue // too long in this domain, so it is in no index
		}
		if r.refused { // evaluate it anyway, for the cost of an unknown recipient
			p.decide(ctx, q, at)
			continue
		}
		if d := p.decideAt(ctx, q, at, target); better(d, best) {
			d.Address, d.Domain = r.form[0], r.domain
			best = d
		}
	}
	return best
}

// decideAt evaluates a recipient in a target domain.
func (p *Policy) decideAt(ctx context.Context, q Query, at recipient, target AliasTarget) (d Decision) {
	if target.Foreign {
		at.entry, at.shared = target.By, true
		d = at.answer(5, VerdictAllowlisted, Reply{}, "the domain is mapped to one that is not judged here, or to "+
			"more than 16")
	} else {
		d = p.decide(ctx, q, at)
	}
	d.JudgedAs, d.AliasedBy = at.form[0], target.By
	return d
}

// recipientAt returns a recipient as the same local part in another domain, without the results of earlier
// rows. It keeps the mode of the domain as written.
func (p *Policy) recipientAt(r recipient, domain string) recipient {
	at := recipient{text: r.text, domain: domain, mode: r.mode, unconfirmed: r.unconfirmed, refused: r.refused}
	at.form[0], at.baseRefused = r.form[0].In(domain), r.baseRefused
	p.setForms(&at)
	return at
}

// better reports whether d replaces the best decision so far. If both replies are equally strict, the decision
// with more knowledge about the address wins, so the harvest limit does not charge an address that has existed.
func better(d, best Decision) bool {
	if a, b := strictness(d), strictness(best); a != b {
		return a < b
	}
	return knowledge(d) >= knowledge(best)
}

// strictness orders decisions by their effect on the sender.
func strictness(d Decision) int {
	switch outcome := d.Reply.Outcome(); {
	case outcome == Accepted:
		return 0
	case outcome == Refused:
		return 3
	case d.Verdict == VerdictHarvestLimited:
		return 2
	}
	return 1
}

// knowledge orders decisions by what they know about an address. Most first: it exists or may exist, a list
// rejects it, it has existed, nothing.
func knowledge(d Decision) int {
	switch {
	case d.Verdict == VerdictRestricted || d.Verdict == VerdictError:
		return 3
	case d.Verdict == VerdictDenylisted:
		return 2
	case !d.Removed.IsZero():
		return 1
	}
	return 0
}

// WithoutExtension reports whether the address was found only without its extension.
func (d Decision) WithoutExtension() bool {
	whole := d.Address
	if !d.JudgedAs.IsZero() {
		whole = d.JudgedAs
	}
	return !d.Match.IsZero() && d.Match != whole
}

// Aliases returns the alias domains in Config.DomainAliases, sorted.
func (p *Policy) Aliases() []string { return slices.Sorted(maps.Keys(p.aliases)) }

// place formats a position as file:line.
func place(file string, line int) string {
	return file + ":" + strconv.Itoa(line)
}
