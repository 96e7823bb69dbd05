package milter

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"rcpt-milter/policy"
)

// maxLogged limits the bytes of one value from the network in a log line.
const maxLogged = 640

// Observer gets every decision, for metrics. It is called concurrently, before the reply
// is sent.
type Observer interface {
	Observe(policy.Query, policy.Decision, time.Duration)
}

// observe counts a decision, passes it to the observer and logs it.
func (s *Server) observe(q policy.Query, d policy.Decision, took time.Duration) {
	s.counters.count(d)
	if s.cfg.Observer != nil {
		s.cfg.Observer.Observe(q, d, took)
	}
	level := slog.LevelDebug
	switch {
	case d.Verdict == policy.VerdictError:
		level = slog.LevelError
	case d.Outcome() != policy.Accepted:
		level = slog.LevelInfo
	}
	if s.log.Enabled(context.Background(), level) {
		s.log.LogAttrs(context.Background(), level, "rcpt", s.redactor.Load().attributes(q, d)...)
	}
}

// attributes returns the log attributes of a decision, under the names that Postfix uses.
// The redactor escapes addresses; the session has escaped the other text of the network.
func (r *redactor) attributes(q policy.Query, d policy.Decision) []slog.Attr {
	to := q.To()
	attrs := append(make([]slog.Attr, 0, 16),
		slog.String("client", q.ClientLabel()),
		slog.String("helo", q.Helo),
		slog.String("from", r.address(q.From)),
		slog.String("to", r.address(to)),
		slog.String("verdict", string(d.Verdict)),
		slog.String("reply", r.reply(d.Reply, to)),
		slog.Bool("would_refuse", d.WouldRefuse),
	)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if d.WouldRefuse {
		add("would_reply", r.reply(d.WouldReply, to))
	}
	add("reason", d.Reason)
	add("entry", r.text(d.Entry, to, d))
	add("judged_as", r.address(d.JudgedAs.String()))
	add("aliased_by", d.AliasedBy)
	if d.WithoutExtension() {
		add("without_extension", r.address(d.Match.String()))
	}
	add("queue_id", q.QueueID)
	add("sasl_username", r.address(q.Authenticated))
	add("directory", d.Freshness.Directory)
	if d.Err != nil {
		add("error", r.text(d.Err.Error(), to, d))
	}
	return attrs
}

// escaped returns a value from the network for a log line of any format. Characters that
// are not printable become escape sequences, and the length is limited. Quotes and
// backslashes stay: they are part of addresses, and the log handler quotes them.
func escaped(text string) string {
	if len(text) <= maxLogged && isPrintable(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		if b.Len() >= maxLogged {
			b.WriteString("...")
			break
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		if unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.Quote(text[i : i+size])
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// isPrintable reports whether text needs no escape sequence.
func isPrintable(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
		}
		if text[i] < ' ' || text[i] == 0x7f {
			return false
		}
	}
	return true
}
