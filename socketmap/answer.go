package socketmap

import (
	"context"
	"log/slog"
	"strings"

	"rcpt-milter/internal/text"
	"rcpt-milter/policy"
)

// Map is the name of the map.
const Map = "recipients"

// WouldRefuse is the value of a recipient that is accepted only in mode report.
const WouldRefuse = "would-refuse"

// kind is the type of a reply.
type kind int

const (
	found kind = iota
	notFound
	temporary
	permanent
	kinds // number of kinds
)

// words are the first words of replies, by kind, each with the space that the protocol requires.
var words = [kinds]string{"OK ", "NOTFOUND ", "TEMP ", "PERM "}

// reply is the reply to a request.
type reply struct {
	kind kind
	text string // the value or the reason
}

func (r reply) String() string { return words[r.kind] + r.text }

// answer returns the reply to a request. It also counts and logs the decision.
func (s *Server) answer(request string) reply {
	name, key, complete := strings.Cut(request, " ")
	switch {
	case !complete:
		return s.counted(reply{permanent, "a request is the name of a map, a space and an address"})
	case name != Map:
		s.trouble.Warn("socketmap request for an unknown map", "map", shown(name), "expected", Map)
		return s.counted(reply{permanent, "the name of the map is " + Map})
	case !strings.Contains(key, "@"): // the policy does not judge a recipient without a domain
		return s.counted(reply{notFound, ""})
	}
	q := policy.Query{Recipient: key, AnySender: true}
	d := s.policy.Load().Decide(s.ctx, q)
	if d.Verdict == policy.VerdictConfirmed && s.cfg.Confirmed != nil {
		s.cfg.Confirmed(d.Match.Domain())
	}
	r := replyTo(d)
	s.logDecision(key, d, r)
	return s.counted(r)
}

// replyTo converts a decision into a reply. Only a recipient that gets 5xx is "not found".
func replyTo(d policy.Decision) reply {
	switch {
	case d.WouldRefuse:
		return reply{found, WouldRefuse}
	case d.Reply.IsContinue():
		return reply{found, string(d.Verdict)}
	case d.Reply.Outcome() == policy.Refused:
		return reply{notFound, ""}
	case d.Err != nil: // the text of Err may be confidential, so it is only logged
		return reply{temporary, "internal error, see the log of rcpt-milter"}
	}
	return reply{temporary, d.Reason}
}

func (s *Server) counted(r reply) reply {
	s.answers[r.kind].Add(1)
	return r
}

// logDecision logs a decision with the phrases of the milter.
func (s *Server) logDecision(key string, d policy.Decision, r reply) {
	level := slog.LevelInfo
	switch {
	case d.Err != nil:
		level = slog.LevelError
	case d.Outcome() == policy.Accepted:
		level = slog.LevelDebug
	}
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	address := *s.redact.Load()
	to := address(key)
	attrs := []slog.Attr{slog.String("to", to), slog.String("verdict", string(d.Verdict)),
		slog.String("answer", strings.TrimSpace(r.String())), slog.Bool("would_refuse", d.WouldRefuse),
		slog.String("reason", d.Reason)}
	if d.Freshness.Directory != "" {
		attrs = append(attrs, slog.String("directory", d.Freshness.Directory))
	}
	if d.Err != nil {
		attrs = append(attrs, slog.String("error", strings.NewReplacer(key, to, d.Address.String(),
			address(d.Address.String())).Replace(d.Err.Error())))
	}
	s.log.LogAttrs(context.Background(), level, "socketmap lookup", attrs...)
}

// maxLogged limits the bytes of one value from the network in a log line.
const maxLogged = 640

// shown returns a value from the network in printable form.
func shown(value string) string { return text.Shortened(value, maxLogged) }
