package milter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"

	"rcpt-milter/address"
)

// concealedSize is how many octets of a hash stand for a local part: enough that two of
// an organisation's addresses hardly ever share one.
const concealedSize = 6

// Conceal gives a spelling of addresses for logs: a keyed hash of the canonical address
// in place of the local part, with the domain as it is. One address has one such name,
// however it was written, and without the key nobody can tell by trying. What has no
// domain is hashed whole; the null sender stays.
func Conceal(key []byte) func(text string) string {
	return func(text string) string {
		if text == "" || text == "<>" {
			return text
		}
		canonical, domain := text, address.DomainOf(text)
		if a, err := address.ParsePath(text); err == nil {
			canonical, domain = a.String(), a.Domain()
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(canonical))
		name := hex.EncodeToString(mac.Sum(nil)[:concealedSize])
		if domain == "" {
			return name
		}
		return name + "@" + domain
	}
}

// spelling is how the lines of the log spell what comes from the network. Concealing
// addresses is its business alone: whatever is logged of a decision goes through it.
type spelling struct {
	conceal func(text string) string // nil: addresses stand as they are
}

// address is an address for the log.
func (s spelling) address(text string) string {
	if s.conceal != nil {
		text = s.conceal(text)
	}
	return escaped(text)
}

// reply is a reply about an address.
func (s spelling) reply(r Reply, to string) string {
	if s.conceal == nil || r.IsContinue() {
		return r.String()
	}
	return r.of(s.address(to))
}

// any is a text that may name one of the addresses of a decision.
func (s spelling) any(text, to string, d Decision) string {
	if s.conceal == nil {
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

// SetConceal has the log spell addresses as conceal does, from now on; nil: as they are.
// Replies do not change.
func (s *Server) SetConceal(conceal func(text string) string) {
	s.spelling.Store(&spelling{conceal})
}

// LoggedAs is how an address stands in the log; empty: as it is.
func (s *Server) LoggedAs(text string) string {
	if conceal := s.spelling.Load().conceal; conceal != nil {
		return escaped(conceal(text))
	}
	return ""
}

// attributes are the keys of the line about one RCPT, in Postfix's words.
func (s spelling) attributes(q Query, d Decision) []slog.Attr {
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
