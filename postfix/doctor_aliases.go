package postfix

import (
	"fmt"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
	"rcpt-milter/postfix/table"
)

// rewritten is a whole domain that a table of Postfix rewrites.
type rewritten struct {
	domain  string   // canonical
	targets []string // of "@domain @target"; empty means that one address receives all mail
	copies  []string // addresses beside the targets, which receive all mail
	itself  bool     // with copies: the domain is a target too
}

// rewrittenBy reads the line of a whole domain. It returns nothing for one that Postfix
// leaves as it is, or cannot use.
func rewrittenBy(domain, value string) []rewritten {
	if targets, others := table.CopyTargets(value); len(others) > 0 {
		foreign := slices.DeleteFunc(slices.Clone(targets), func(target string) bool { return target == domain })
		return []rewritten{{domain, foreign, others, len(foreign) < len(targets)}}
	}
	targets, err := table.AliasTargets(domain, value)
	if err != nil {
		return nil
	}
	return []rewritten{{domain: domain, targets: targets}}
}

// refusedDomains finds whole domains that Postfix rewrites and the daemon does not know, and
// aliases of which the daemon accepts every recipient. With copies, that is right: each recipient reaches one.
func (e *examination) refusedDomains(parameter, table string, domains []rewritten) {
	var catchAll, aliases, open []rewritten
	for _, r := range domains {
		accepted, known := e.acceptsAll(r.domain)
		switch {
		case !known:
		case accepted && len(r.copies) == 0 && slices.ContainsFunc(r.targets, e.judged):
			open = append(open, r)
		case accepted || e.knowsAlias(r):
		case len(r.copies) > 0:
			e.findCopies(inTable(parameter, table), r)
		case len(r.targets) > 0:
			aliases = append(aliases, r)
		default:
			catchAll = append(catchAll, r)
		}
	}
	e.findCatchAll(inTable(parameter, table), catchAll)
	e.findAliases(inTable(parameter, table), table, aliases)
	e.findOpen(inTable(parameter, table), table, open)
}

// askedBefore explains why the daemon must know what Postfix rewrites.
const askedBefore = "Postfix asks the daemon before it rewrites them."

func (e *examination) findCatchAll(where string, all []rewritten) {
	if len(all) == 0 {
		return
	}
	e.find("domain-rewritten", Problem,
		fmt.Sprintf("%s accepts every recipient of %s, and the daemon only those in the directory",
			where, text.List(wholeDomains(all), shownAddresses)),
		askedBefore, fmt.Sprintf("in config.yaml: accept: [%s]", strings.Join(yamlQuoted(wholeDomains(all)), ", ")))
}

func (e *examination) findAliases(where, table string, all []rewritten) {
	if len(all) == 0 {
		return
	}
	e.find("domain-rewritten", Problem,
		fmt.Sprintf("%s maps %s to another domain, and the daemon does not",
			where, text.List(wholeDomains(all), shownAddresses)),
		askedBefore, e.fixAliases(table, all)...)
}

// findCopies reports a domain of which further addresses receive all mail. Only the operator knows whether they are to
// receive mail for unknown recipients.
func (e *examination) findCopies(where string, r rewritten) {
	copies := text.List(r.copies, shownAddresses)
	accept := fmt.Sprintf("to accept every recipient, as Postfix does, in config.yaml: accept: [%q]", "@"+r.domain)
	if len(r.targets) == 0 {
		e.find("domain-rewritten", Note, fmt.Sprintf("%s sends mail for @%s also to %s", where, r.domain, copies),
			"The daemon rejects unknown recipients before, so mail for them does not get there. This is right for "+
				"copies.",
			accept)
		return
	}
	only := fmt.Sprintf("if %s gets copies only, ", copies)
	if len(r.copies) > 1 {
		only = fmt.Sprintf("if %s get copies only, ", copies)
	}
	e.find("domain-rewritten", Problem, fmt.Sprintf("%s maps @%s to another domain and to %s, and the daemon does not",
		where, r.domain, copies), askedBefore, only+aliasLine(r), accept)
}

// aliasLine returns the configuration of one alias. domain_aliases has one target for each.
func aliasLine(r rewritten) string {
	if len(r.targets) == 1 {
		return fmt.Sprintf("in config.yaml: domain_aliases: {%s: %s}", r.domain, r.targets[0])
	}
	return fmt.Sprintf("in a file of accept_files: @%s @%s", r.domain, strings.Join(r.targets, ", @"))
}

func (e *examination) findOpen(where, table string, all []rewritten) {
	if len(all) == 0 {
		return
	}
	e.find("alias-accepts-all", Note,
		fmt.Sprintf("%s maps %s to another domain, and the daemon accepts every recipient",
			where, text.List(wholeDomains(all), shownAddresses)),
		"Mail for unknown recipients is accepted and bounces later.",
		append(e.fixAliases(table, all), fmt.Sprintf("and remove %s from accept",
			strings.Join(wholeDomains(all), ", ")))...)
}

// acceptsAll reports whether the daemon accepts every recipient of a domain, by asking about
// one that does not exist, and whether it answered.
func (e *examination) acceptsAll(domain string) (accepted, known bool) {
	probe, err := address.Parse("rcpt-milter-doctor-probe@" + domain)
	if err != nil {
		return false, false
	}
	answers, err := e.judge([]address.Address{probe})
	if err != nil {
		return false, false
	}
	return answers[0].Accepted, true
}

// knowsAlias reports whether the daemon has the same alias as Postfix.
func (e *examination) knowsAlias(r rewritten) bool {
	missing := func(target string) bool { return !slices.Contains(e.daemon.Aliases[r.domain], target) }
	return len(r.targets) > 0 && !slices.ContainsFunc(r.targets, missing)
}

// fixAliases returns the configuration for aliases. An alias with several targets needs the
// table itself, or a line of a file.
func (e *examination) fixAliases(table string, aliases []rewritten) (fix []string) {
	var pairs, lines, foreign []string
	for _, r := range aliases {
		if len(r.targets) == 1 {
			pairs = append(pairs, r.domain+": "+r.targets[0])
		} else if file, ok := sourceOf(table); ok {
			return []string{fmt.Sprintf("in config.yaml: accept_files: [%s]", file)}
		} else {
			lines = append(lines, aliasLine(r))
		}
		if !slices.ContainsFunc(r.targets, e.judged) {
			foreign = append(foreign, "@"+r.domain)
		}
	}
	if len(pairs) > 0 {
		fix = []string{fmt.Sprintf("in config.yaml: domain_aliases: {%s}", strings.Join(pairs, ", "))}
	}
	if fix = append(fix, lines...); len(foreign) > 0 {
		fix = append(fix, fmt.Sprintf("or, if no directory has the addresses of the other domain: accept: [%s]",
			strings.Join(yamlQuoted(foreign), ", ")))
	}
	return fix
}

// wholeDomains returns the keys of rewritten domains.
func wholeDomains(all []rewritten) []string {
	var keys []string
	for _, r := range all {
		keys = append(keys, "@"+r.domain)
	}
	return keys
}

// ownedAsAlias reports whether an address has an owner in a target of its domain.
func (e *examination) ownedAsAlias(a address.Address) bool {
	var forms []address.Address
	for _, target := range e.daemon.Aliases[a.Domain()] {
		forms = append(forms, a.In(target))
	}
	answers, err := e.judge(forms)
	return err == nil && slices.ContainsFunc(answers, func(j Judgement) bool { return j.Owned })
}
