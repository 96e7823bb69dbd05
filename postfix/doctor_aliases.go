package postfix

import (
	"fmt"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

// rewritten is a whole domain that a table of Postfix rewrites.
type rewritten struct {
	domain  string   // canonical
	targets []string // of "@domain @target"; empty: an address takes all of its mail
}

// rewrittenBy reads the line of a whole domain. It returns nothing for one that Postfix
// leaves as it is, or cannot use.
func rewrittenBy(domain, value string) []rewritten {
	targets, err := targetsOf("@"+domain, []byte(value), false)
	if err != nil {
		return nil
	}
	return []rewritten{{domain, targets}}
}

// refusedDomains finds whole domains that Postfix rewrites and the daemon does not know, and
// aliases of which the daemon accepts every recipient.
func (e *examination) refusedDomains(parameter, table string, domains []rewritten) {
	var catchAll, aliases, open []rewritten
	for _, r := range domains {
		accepted, known := e.acceptsAll(r.domain)
		switch {
		case !known:
		case accepted && slices.ContainsFunc(r.targets, e.judged):
			open = append(open, r)
		case accepted || e.knowsAlias(r):
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

// askedBefore is why what Postfix rewrites is a matter of the daemon.
const askedBefore = "It is asked before Postfix rewrites them."

func (e *examination) findCatchAll(where string, all []rewritten) {
	if len(all) == 0 {
		return
	}
	e.find("domain-rewritten", Fault,
		fmt.Sprintf("%s takes every recipient of %s, and the daemon only those whom the directory has under that name",
			where, text.List(wholeDomains(all), shownAddresses)),
		askedBefore, fmt.Sprintf("in config.yaml: accept: [%s]", strings.Join(yamlQuoted(wholeDomains(all)), ", ")))
}

func (e *examination) findAliases(where, table string, all []rewritten) {
	if len(all) == 0 {
		return
	}
	e.find("domain-rewritten", Fault,
		fmt.Sprintf("%s takes the recipients of %s for those of another domain, and the daemon does not",
			where, text.List(wholeDomains(all), shownAddresses)),
		askedBefore, e.mendAliases(table, all)...)
}

func (e *examination) findOpen(where, table string, all []rewritten) {
	if len(all) == 0 {
		return
	}
	e.find("alias-accepts-all", Note,
		fmt.Sprintf("%s takes the recipients of %s for those of another domain, and the daemon accepts every one",
			where, text.List(wholeDomains(all), shownAddresses)),
		"Unknown recipients are accepted, and bounce behind us.",
		append(e.mendAliases(table, all), fmt.Sprintf("and take %s out of accept", strings.Join(wholeDomains(all), ", ")))...)
}

// acceptsAll asks the daemon about a recipient that does not exist, which only a rule for the
// whole domain accepts. It reports whether there was an answer.
func (e *examination) acceptsAll(domain string) (accepted, known bool) {
	probe, err := address.Parse("rcpt-milter-doctor-probe@" + domain)
	if err != nil {
		return false, false
	}
	answers, err := e.judge([]address.Address{probe})
	if err != nil || len(answers) != 1 {
		return false, false
	}
	return answers[0].Accepted, true
}

// knowsAlias reports whether the daemon takes a domain for an alias as Postfix does.
func (e *examination) knowsAlias(r rewritten) bool {
	missing := func(target string) bool { return !slices.Contains(e.daemon.Aliases[r.domain], target) }
	return len(r.targets) > 0 && !slices.ContainsFunc(r.targets, missing)
}

// mendAliases is the configuration that judges the recipients of aliases where they are. One
// that has several targets takes the table itself.
func (e *examination) mendAliases(table string, aliases []rewritten) (mend []string) {
	var pairs, foreign []string
	for _, r := range aliases {
		if len(r.targets) != 1 {
			if file, ok := sourceOf(table); ok {
				return []string{fmt.Sprintf("in config.yaml: accept_files: [%s]", file)}
			}
		}
		pairs = append(pairs, r.domain+": "+r.targets[0])
		if !e.judged(r.targets[0]) {
			foreign = append(foreign, "@"+r.domain)
		}
	}
	mend = []string{fmt.Sprintf("in config.yaml: domain_aliases: {%s}", strings.Join(pairs, ", "))}
	if len(foreign) > 0 {
		mend = append(mend, fmt.Sprintf("or, where no directory has the addresses of the other domain: accept: [%s]",
			strings.Join(yamlQuoted(foreign), ", ")))
	}
	return mend
}

// wholeDomains are the keys of rewritten domains.
func wholeDomains(all []rewritten) []string {
	var keys []string
	for _, r := range all {
		keys = append(keys, "@"+r.domain)
	}
	return keys
}

// ownedAsAlias reports whether an address has an owner in a domain that its own is an alias of.
func (e *examination) ownedAsAlias(a address.Address) bool {
	var forms []address.Address
	for _, target := range e.daemon.Aliases[a.Domain()] {
		forms = append(forms, a.In(target))
	}
	answers, err := e.judge(forms)
	return err == nil && slices.ContainsFunc(answers, func(j Judgement) bool { return j.Owned })
}
