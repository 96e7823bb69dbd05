package milter

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"rcpt-milter/internal/text"
)

// maxLogged bounds how many octets of one value from the network a log line shows.
const maxLogged = 640

// Observer is told of every decision, for metrics. It is called by all sessions at
// once, before the reply is sent.
type Observer interface {
	Observe(Query, Decision, time.Duration)
}

// verdicts are all there are, in the order of the table.
var verdicts = [...]Verdict{
	VerdictExempt, VerdictAlways, VerdictNotOurs, VerdictListed, VerdictRefused,
	VerdictKnown, VerdictRestricted, VerdictNotReady, VerdictInGrace, VerdictStale,
	VerdictConfirmed, VerdictHarvestLimited, VerdictUnknown, VerdictError,
}

// Verdicts gives all verdicts there are, in the order of the table.
func Verdicts() []Verdict { return append([]Verdict(nil), verdicts[:]...) }

// Counters count decisions since the server was made. The zero value is ready; all
// methods may be called concurrently.
type Counters struct {
	decisions   [len(verdicts)]atomic.Int64
	wouldRefuse [len(verdicts)]atomic.Int64
}

// Decisions is the number of decisions by verdict; those never given are there as 0.
func (c *Counters) Decisions() map[Verdict]int64 { return read(&c.decisions) }

// WouldRefuse is how many of them mode report kept from being refusals.
func (c *Counters) WouldRefuse() map[Verdict]int64 { return read(&c.wouldRefuse) }

func read(counts *[len(verdicts)]atomic.Int64) map[Verdict]int64 {
	m := make(map[Verdict]int64, len(verdicts))
	for i, v := range verdicts {
		m[v] = counts[i].Load()
	}
	return m
}

// count counts one decision.
func (c *Counters) count(d Decision) {
	for i, v := range verdicts {
		if v != d.Verdict {
			continue
		}
		c.decisions[i].Add(1)
		if d.WouldRefuse {
			c.wouldRefuse[i].Add(1)
		}
		return
	}
}

// observe does what Decide leaves to its caller: counts, tells the observer, logs.
func (s *Server) observe(q Query, d Decision, took time.Duration) {
	s.counters.count(d)
	if s.cfg.Observer != nil {
		s.cfg.Observer.Observe(q, d, took)
	}
	level := slog.LevelDebug
	switch {
	case d.Verdict == VerdictError:
		level = slog.LevelError
	case d.WouldRefuse || !d.Reply.IsContinue():
		level = slog.LevelInfo
	}
	if s.log.Enabled(context.Background(), level) {
		s.log.LogAttrs(context.Background(), level, "rcpt", s.redactor.Load().attributes(q, d)...)
	}
}

// client names the client as Postfix does: name[address].
func client(q Query) string {
	name, addr := q.ClientName, "unknown"
	if name == "" {
		name = "unknown"
	}
	if q.Client.IsValid() {
		addr = q.Client.String()
	}
	return escaped(name) + "[" + addr + "]"
}

// escaped returns the printable form of a value from the network for the log, cut to maxLogged.
func escaped(s string) string { return text.Shortened(s, maxLogged) }
