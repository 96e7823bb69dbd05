package milter

import (
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/logging"
	"rcpt-milter/policy"
)

// HashAddress returns a function that replaces the local part of an address by a keyed hash of the canonical
// address. It keeps the domain. All spellings of an address have the same hash, which cannot be guessed without
// the key. Text without a domain is hashed as a whole. The null sender is not changed.
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

// redactor prepares text from the network for the log. It escapes the text and, with log.addresses "hash",
// hides local parts.
type redactor struct {
	hash func(text string) string // nil logs addresses unchanged
}

// address returns an address in the form for the log.
func (r *redactor) address(text string) string {
	if r.hash != nil {
		text = r.hash(text)
	}
	return escaped(text)
}

// reply returns a reply in the form for the log.
func (r *redactor) reply(reply policy.Reply, to string) string {
	if r.hash == nil {
		return reply.String()
	}
	return reply.WithAddress(r.address(to))
}

// text redacts the addresses of a decision in a text.
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

// SetRedaction sets the function that hashes addresses for the log; nil logs them unchanged. It does not affect
// replies.
func (s *Server) SetRedaction(hash func(text string) string) {
	s.redactor.Store(&redactor{hash})
}

// LoggedAs returns an address in the form for the log, or an empty string if the log shows addresses unchanged.
func (s *Server) LoggedAs(text string) string {
	if r := s.redactor.Load(); r.hash != nil {
		return r.address(text)
	}
	return ""
}
