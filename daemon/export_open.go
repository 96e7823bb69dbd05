package daemon

import (
	"maps"
	"slices"
	"strings"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// An openDomain is a domain in which the daemon rejects no recipient now. A list has it as a whole.
type openDomain struct {
	name   string // canonical; a parent of sub-domains begins with a dot, and no list can hold it
	source string // SourceReport, SourceEmpty or SourceStale
}

// findOpen finds the open domains: those in mode report, the enforced ones without a known address or with an
// accept file that is too old or in doubt, and the enforced aliases of such ones. A domain without a known address,
// or its alias, goes to maybeEmpty instead unless a complete pass has shown the domain to be empty.
func (e *exporter) findOpen(without []string, read func(domain string) bool, ages fileAges) {
	judged := e.judged()
	var empty []string
	for _, domain := range without {
		if read(domain) {
			empty = append(empty, domain)
		} else {
			e.maybeEmpty = append(e.maybeEmpty, domain)
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(e.config.Domains)) {
		if e.config.Domains[domain] == config.Report && !strings.HasPrefix(domain, ".") {
			e.setOpen(domain, control.SourceReport)
		}
	}
	for _, domain := range judged {
		if e.config.ModeOf(domain) == config.Report {
			e.setOpen(domain, control.SourceReport)
		}
	}
	for _, domain := range empty {
		e.setOpen(domain, control.SourceEmpty)
	}
	stale := func(domain string) bool {
		f := ages.freshness(domain)
		return f.State == policy.Stale && (f.Doubt != "" || e.config.WhenStale != config.Refuse)
	}
	for _, domain := range judged {
		if stale(domain) {
			e.setOpen(domain, control.SourceStale)
		}
	}
	maybeEmpty := slices.Clone(e.maybeEmpty)
	for _, alias := range e.aliases() {
		targets := e.policy.AliasTargets(alias)
		e.setOpen(alias, deferredBy(targets, empty, stale))
		if deferredBy(targets, maybeEmpty, func(string) bool { return false }) != "" {
			e.maybeEmpty = append(e.maybeEmpty, alias)
		}
	}
	e.maybeEmpty = slices.DeleteFunc(e.maybeEmpty, func(domain string) bool { return e.openSource(domain) != "" })
}

// setOpen adds a domain to the open ones, unless it is one already, or there is no source.
func (e *exporter) setOpen(domain, source string) {
	if source != "" && e.openSource(domain) == "" {
		e.open = append(e.open, openDomain{domain, source})
	}
}

// deferredBy returns why the unknown recipients of an alias with these targets are deferred, or "".
// The modes of the targets do not matter: that of the alias counts.
func deferredBy(targets []policy.AliasTarget, empty []string, stale func(domain string) bool) (source string) {
	for _, t := range targets {
		switch {
		case t.Alias:
		case slices.Contains(empty, t.Domain):
			return control.SourceEmpty
		case stale(t.Domain):
			source = control.SourceStale
		}
	}
	return source
}

// openSource returns why a domain is open, or "".
func (e *exporter) openSource(domain string) string {
	for _, o := range e.open {
		if o.name == domain {
			return o.source
		}
	}
	return ""
}

// addOpen lists the open domains.
func (e *exporter) addOpen() error {
	for _, o := range e.open {
		if strings.HasPrefix(o.name, ".") {
			continue // openBelow names it
		}
		if err := e.addWhole(o.name, o.source); err != nil {
			return err
		}
	}
	return nil
}

// addWhole lists a whole domain, unless a list of the configuration has it.
func (e *exporter) addWhole(domain, source string) error {
	key := "@" + domain
	if slices.Contains(e.config.Accept, key) ||
		slices.ContainsFunc(e.files, func(t *tables.Table) bool { return t.Has(key) }) {
		return nil
	}
	return e.add(control.Recipient{Address: key, Source: source})
}
