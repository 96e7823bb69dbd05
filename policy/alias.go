package milter

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"rcpt-milter/address"
)

// maxTargets bounds how many domains one alias leads to, over all its steps.
const maxTargets = 16

// aliasedByKey is what AliasedBy says of an alias of the configuration.
const aliasedByKey = "domain_aliases"

// AliasTable is a Table that maps whole domains to others as well, as a line
// "@example.net @example.test" does in virtual(5). Its Find does not accept every recipient
// of such a domain.
type AliasTable interface {
	Table
	// Aliases visits the canonical domains to which the table maps another one, and where
	// it says so.
	Aliases(domain string, visit func(target, file string, line int))
}

// AliasTarget is a domain in which the recipients of an alias are judged.
type AliasTarget struct {
	Domain string // canonical
	By     string // domain_aliases, or the file and line that say so
	// Foreign reports that an accept file maps to a domain that is not judged here: every
	// recipient of the alias is accepted, because nothing is known of that domain.
	Foreign bool
	// Alias reports that the domain is an alias itself: that the index has no address of it
	// means nothing.
	Alias bool
}

// canonicalAliases reads the configured domain aliases. It rejects two spellings of one
// alias, and aliases that lead back to themselves.
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
			return nil, fmt.Errorf("domain alias %q is there twice, also in another spelling; keep one", alias)
		}
		aliases[alias] = target
	}
	for alias := range aliases {
		for domain, steps := aliases[alias], 0; domain != ""; domain, steps = aliases[domain], steps+1 {
			if domain == alias || steps > len(aliases) {
				return nil, fmt.Errorf("domain alias %q leads back to itself; leave it out", alias)
			}
		}
	}
	return aliases, nil
}

// AliasTargets returns the domains in which the recipients of a canonical domain are judged
// besides their own, by the configuration and by the accept files. An alias of an alias
// leads to the targets of both. It is empty for a domain that is no alias.
func (p *Policy) AliasTargets(domain string) []AliasTarget {
	all := p.aliasSteps(domain)
	if all == nil {
		return nil
	}
	seen := map[string]bool{domain: true}
	all = slices.DeleteFunc(all, func(t AliasTarget) bool { return alreadyIn(seen, t.Domain) })
	for next := 0; next < len(all); next++ {
		steps := p.aliasSteps(all[next].Domain)
		all[next].Alias = len(steps) > 0
		for _, target := range steps {
			if len(all) < maxTargets && !alreadyIn(seen, target.Domain) {
				all = append(all, target)
			}
		}
	}
	return all[:min(len(all), maxTargets)]
}

// alreadyIn adds a domain to a set, and reports whether it was in it before.
func alreadyIn(seen map[string]bool, domain string) bool {
	before := seen[domain]
	seen[domain] = true
	return before
}

// aliasSteps returns what one domain is an alias of, without further steps.
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

// judgeForms judges a recipient as it came, and in each domain that its own is an alias of.
// The directories are searched only for what no form of it is accepted without: the index
// answers for most recipients of an alias under their other name.
func (p *Policy) judgeForms(ctx context.Context, q Query, r recipient) Decision {
	targets := p.AliasTargets(r.domain)
	if len(targets) == 0 {
		return p.judgeSafely(ctx, q, r)
	}
	r.unconfirmed = true
	r.aliased = slices.ContainsFunc(targets, func(t AliasTarget) bool { return !t.Alias })
	d := p.mostLenient(ctx, q, r, targets)
	if p.confirm == nil || d.Reply.IsContinue() {
		return d
	}
	r.unconfirmed = false
	return p.mostLenient(ctx, q, r, targets)
}

// mostLenient returns the most lenient of the decisions about the forms of a recipient,
// because an address is valid when one of its forms is. An entry in refuse that names the
// recipient as it came is final.
func (p *Policy) mostLenient(ctx context.Context, q Query, r recipient, targets []AliasTarget) Decision {
	best := p.judgeSafely(ctx, q, r)
	if best.Verdict == VerdictRefused {
		return best
	}
	for _, target := range targets {
		if best.Reply.IsContinue() {
			break
		}
		at := p.recipientAt(r, target.Domain)
		at.aliased = r.aliased && target.Alias
		if r.readable() && !at.readable() {
			continue // too long there, and in no index
		}
		if d := p.judgeAs(ctx, q, at, target); better(d, best) {
			d.Address, d.Domain = r.form[0], r.domain
			best = d
		}
	}
	return best
}

// judgeAs judges a recipient that stands in the domain of a target.
func (p *Policy) judgeAs(ctx context.Context, q Query, at recipient, target AliasTarget) (d Decision) {
	if target.Foreign {
		at.entry, at.shared = target.By, true
		d = at.answer(5, VerdictListed, Reply{}, "accept_files maps the domain to one that is not judged here")
	} else {
		d = p.judgeSafely(ctx, q, at)
	}
	d.JudgedAs, d.AliasedBy = at.form[0], target.By
	return d
}

// recipientAt returns a recipient as the same local part of another domain, before anything
// was found out about it. The mode stays.
func (p *Policy) recipientAt(r recipient, domain string) recipient {
	at := recipient{text: r.text, domain: domain, mode: r.mode, unconfirmed: r.unconfirmed}
	at.form[0] = r.form[0].In(domain)
	if p.delimiters != "" {
		at.form[1], _ = at.form[0].WithoutExtension(p.delimiters)
	}
	return at
}

// better reports whether d is the decision to give, rather than the best so far. Of two
// replies that are as strict, the one that knows more of the address counts: the harvest
// limit charges for no address that has existed.
func better(d, best Decision) bool {
	if a, b := strictness(d), strictness(best); a != b {
		return a < b
	}
	return knowledge(d) >= knowledge(best)
}

// strictness orders decisions by what they mean for the sender.
func strictness(d Decision) int {
	switch code := d.Reply.Code(); {
	case code == 0:
		return 0
	case code >= 500:
		return 3
	case d.Verdict == VerdictHarvestLimited:
		return 2
	}
	return 1
}

// knowledge orders decisions by what they know of an address: that it exists or may exist,
// that a list rejects it, that it has existed, or nothing.
func knowledge(d Decision) int {
	switch {
	case d.Verdict == VerdictRestricted || d.Verdict == VerdictError:
		return 3
	case d.Verdict == VerdictRefused:
		return 2
	case !d.Removed.IsZero():
		return 1
	}
	return 0
}

// WithoutExtension reports whether the decision is about the address without its extension.
func (d Decision) WithoutExtension() bool {
	whole := d.Address
	if !d.JudgedAs.IsZero() {
		whole = d.JudgedAs
	}
	return !d.Match.IsZero() && d.Match != whole
}

// Aliases returns the domains that DomainAliases names as aliases.
func (p *Policy) Aliases() []string { return slices.Sorted(maps.Keys(p.aliases)) }

// place names a line of a file.
func place(file string, line int) string {
	return file + ":" + strconv.Itoa(line)
}
