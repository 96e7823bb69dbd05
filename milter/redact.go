package milter

import (
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/logging"
	"rcpt-milter/policy"
)

// HashAddress returns a function that replaces the local part of an address by a keyed hash
// of the canonical address. The domain stays. All spellings of an address have the same hash,
// which cannot be guessed without the key. Text without a domain is hashed as a whole; the
// null sender stays.
func HashAddress(key []byte) func(text string) string {
	return func(text string) string {
		if text == "" || text == "<>" {
			return text
		}
		canonical, domain := text, address.DomainOf(text)
		if a, err := address.ParsePath(text); err == nil {
			canonical, domain = a.String(), a.Domain()
		}
		return logging.HashAddress(key, canonical, domain)
	}
}

// redactor writes text of the network for the log: escaped, and with log.addresses "hash"
// without local parts.
type redactor struct {
	hash func(text string) string // nil logs addresses as they are
}

// address returns an address for the log.
func (r *redactor) address(text string) string {
	if r.hash != nil {
		text = r.hash(text)
	}
	return escaped(text)
}

// reply returns a reply for the log.
func (r *redactor) reply(reply policy.Reply, to string) string {
	if r.hash == nil {
		return reply.String()
	}
	return reply.WithAddress(r.address(to))
}

// text returns text that may contain the addresses of a decision.
func (r *redactor) text(text, to string, d policy.Decision) string {
	if r.hash == nil || text == "" {
		return text
	}
	var pairs []string
	for _, a := range []string{to, d.Address.String(), d.JudgedAs.String(), d.Match.String()} {
		if a != "" {
			pairs = append(pairs, a, r.address(a))
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// SetRedaction makes the log show addresses as hash returns them; nil means as they are.
// Replies do not change.
func (s *Server) SetRedaction(hash func(text string) string) {
	s.redactor.Store(&redactor{hash})
}

// LoggedAs returns an address as the log shows it; empty if the log shows it as it is.
func (s *Server) LoggedAs(text string) string {
	if r := s.redactor.Load(); r.hash != nil {
		return r.address(text)
	}
	return ""
}
