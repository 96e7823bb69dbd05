package control

import (
	"strings"

	"rcpt-milter/policy"
)

// EmptyDomainText explains that no address of an enforced domain is known, with what its recipients get by
// when_not_ready, and the remedy.
func EmptyDomainText(domain string, whenNotReady policy.Fallback) string {
	get := "get 451"
	if UnknownIn(NotReady, "", whenNotReady) == UnknownAccepted {
		get = "are accepted"
	}
	what := "no address of " + domain
	if parent, sub := strings.CutPrefix(domain, "."); sub {
		what = "no address of any sub-domain of " + parent
	}
	return what + " is known, and domains says enforce: all recipients there " + get + " (when_not_ready); " +
		"correct the name in domains or domain_aliases, add the directory that has its recipients, " +
		"or name one of them in accept"
}

// EmptyDomainText explains that no address of an enforced domain is known.
func (s Status) EmptyDomainText(domain string) string { return EmptyDomainText(domain, s.WhenNotReady) }

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
