package control

import "strings"

// EmptyDomainText explains that no address of an enforced domain is known, with the remedy.
func EmptyDomainText(domain string) string {
	what := "no address of " + domain
	if parent, sub := strings.CutPrefix(domain, "."); sub {
		what = "no address of any sub-domain of " + parent
	}
	return what + " is known, and domains says enforce: all recipients there get 451 (when_not_ready); " +
		"correct the name in domains or domain_aliases, add the directory that has its recipients, " +
		"or name one of them in accept"
}

// InEmptyDomain reports whether the recipient is deferred because its domain has no known
// address, although its directories have been read. That lasts until an operator acts.
func (a LookupAnswer) InEmptyDomain() bool {
	if a.Verdict != VerdictNotReady {
		return false
	}
	switch a.DirectoryState {
	case Fresh, Late, Stale:
		return true
	}
	return false
}
