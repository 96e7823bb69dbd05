package control

import (
	"strings"

	"rcpt-milter/policy"
)

// EmptyDomainText explains that no address of an enforced domain is known, with what its recipients get by
// when_not_ready, and the remedy.
func EmptyDomainText(domain string, whenNotReady policy.Fallback) string {
	what := "no address of " + domain
	if parent, sub := strings.CutPrefix(domain, "."); sub {
		what = "no address of any sub-domain of " + parent
	}
	return what + " is known, and domains says enforce: " + EmptyDomainReply(whenNotReady) + "; " +
		"correct the name in domains or domain_aliases, add the directory that has its recipients, " +
		"or name one of them in accept"
}

// EmptyDomainReply says what the recipients of an enforced domain without a known address get by when_not_ready.
func EmptyDomainReply(whenNotReady policy.Fallback) string {
	if UnknownIn(NotReady, "", whenNotReady) == UnknownAccepted {
		return "all recipients there are accepted (when_not_ready: accept)"
	}
	return "all recipients there get 451 (when_not_ready)"
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
