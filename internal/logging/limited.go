package logging

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// A burst of lines passes a Limited at once, then one line a second.
const burst = 10

// Limited logs events that a peer can cause at will: a burst of lines, then one a second. The
// next line that passes has the number of those that did not.
type Limited struct {
	log     *slog.Logger
	limit   *rate.Limiter
	skipped atomic.Int64
}

// NewLimited returns a Limited that writes to a logger.
func NewLimited(l *slog.Logger) *Limited {
	return &Limited{log: l, limit: rate.NewLimiter(rate.Every(time.Second), burst)}
}

// Warn logs a constant message with alternating keys and values.
func (l *Limited) Warn(msg string, args ...any) {
	if !l.limit.Allow() {
		l.skipped.Add(1)
		return
	}
	if n := l.skipped.Swap(0); n > 0 {
		args = append(args, "similar_left_out", n)
	}
	l.log.Warn(msg, args...)
}
