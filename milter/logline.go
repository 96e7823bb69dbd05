package milter

import (
	"context"
	"log/slog"
	"time"

	"rcpt-milter/internal/logging"
	"rcpt-milter/internal/text"
	"rcpt-milter/policy"
)

// maxLogged limits the bytes of one value from the network in a log line.
const maxLogged = 640

// Observer records every decision. Observe must be safe for concurrent use. It is called before the reply is
// sent.
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
	s.logDecision(level, q, d)
}

// Probe does what a session does for an unknown recipient, from the decision to the log and the reply. It returns
// when the reply would be sent. It counts and charges nothing and searches no directory, and its log line is
// discarded (logging.LevelProbe).
func (s *Server) Probe() {
	p := s.policy.Load()
	q := p.ProbeQuery()
	d := p.Decide(s.ctx, q)
	response(d.Reply).Response()
	s.logDecision(logging.LevelProbe, q, d)
}

func (s *Server) logDecision(level slog.Level, q policy.Query, d policy.Decision) {
	if s.log.Enabled(context.Background(), level) {
		s.log.LogAttrs(context.Background(), level, "rcpt", s.redactor.Load().attributes(q, d)...)
	}
}

// attributes returns the log attributes of a decision, with Postfix's names. The redactor escapes addresses;
// the session has already escaped all other text from the network.
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
	if d.WouldLimit {
		attrs = append(attrs, slog.Bool("would_limit", true))
	}
	add("reason", d.Reason)
	add("entry", r.text(d.Entry, to, d))
	add("judged_as", r.address(d.JudgedAs.String()))
	add("aliased_by", d.AliasedBy)
	if d.Stripped != "" {
		add("without_tag", r.address(d.Match.String()))
	} else if d.WithoutExtension() {
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

// escaped returns a value from the network in printable form for the log, cut to maxLogged bytes.
func escaped(s string) string { return text.Shortened(s, maxLogged) }
