package milter

import (
	"log/slog"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/internal/logging"
)

// HashAddress returns a function that replaces the local part of an address by a keyed hash of
// the canonical address. All spellings of an address have the same hash. Text without a domain
// is hashed as a whole; the null sender stays.
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

// redactor prepares values from the network for the log. Everything that is logged of a
// decision passes through it, so it alone decides whether addresses are hashed.
type redactor struct {
	hash func(text string) string // nil: addresses are logged as they are
}

// address returns an address for the log.
func (s redactor) address(text string) string {
	if s.hash != nil {
		text = s.hash(text)
	}
	return escaped(text)
}

// reply returns a reply about an address for the log.
func (s redactor) reply(r Reply, to string) string {
	if s.hash == nil || r.IsContinue() {
		return r.String()
	}
	return r.of(s.address(to))
}

// any returns a text for the log that may contain one of the addresses of a decision.
func (s redactor) any(text, to string, d Decision) string {
	if s.hash == nil {
		return text
	}
	var pairs []string
	for _, a := range []string{to, d.Address.String(), d.JudgedAs.String(), d.Match.String()} {
		if a != "" {
			pairs = append(pairs, a, s.address(a))
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// SetRedaction has addresses pass through hash on their way to the log; nil logs them as they are.
// Replies do not change.
func (s *Server) SetRedaction(hash func(text string) string) {
	s.redactor.Store(&redactor{hash})
}

// LoggedAs returns the hash by which the log names an address; empty if it logs addresses.
func (s *Server) LoggedAs(text string) string {
	if hash := s.redactor.Load().hash; hash != nil {
		return escaped(hash(text))
	}
	return ""
}

// attributes returns the keys of the line about one RCPT, in Postfix's words.
func (s redactor) attributes(q Query, d Decision) []slog.Attr {
	to := q.Recipient
	if to == "" {
		to = q.Argument
	}
	attrs := append(make([]slog.Attr, 0, 16),
		slog.String("client", client(q)),
		slog.String("helo", escaped(q.Helo)),
		slog.String("from", s.address(q.From)),
		slog.String("to", s.address(to)),
		slog.String("verdict", string(d.Verdict)),
		slog.String("reply", s.reply(d.Reply, to)),
		slog.Bool("would_refuse", d.WouldRefuse),
	)
	if d.WouldRefuse {
		attrs = append(attrs, slog.String("would_reply", s.reply(d.WouldReply, to)))
	}
	attrs = append(attrs, slog.String("reason", d.Reason))
	if d.Entry != "" {
		attrs = append(attrs, slog.String("entry", s.any(d.Entry, to, d)))
	}
	if !d.JudgedAs.IsZero() {
		attrs = append(attrs, slog.String("judged_as", s.address(d.JudgedAs.String())))
	}
	if d.AliasedBy != "" {
		attrs = append(attrs, slog.String("aliased_by", d.AliasedBy))
	}
	if d.WithoutExtension() {
		attrs = append(attrs, slog.String("without_extension", s.address(d.Match.String())))
	}
	if q.QueueID != "" {
		attrs = append(attrs, slog.String("queue_id", escaped(q.QueueID)))
	}
	if q.Authenticated != "" {
		attrs = append(attrs, slog.String("sasl_username", s.address(q.Authenticated)))
	}
	if d.Freshness.Directory != "" {
		attrs = append(attrs, slog.String("directory", d.Freshness.Directory))
	}
	if d.Err != nil {
		attrs = append(attrs, slog.String("error", s.any(d.Err.Error(), to, d)))
	}
	return attrs
}
