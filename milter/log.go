package milter

import (
	"bytes"
	"log"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// limitedLog logs what others can cause as often as they like: at most some lines at
// once and one a second then. The next line says how many were left out.
type limitedLog struct {
	log     *slog.Logger
	limit   *rate.Limiter
	skipped atomic.Int64
}

func newLimitedLog(l *slog.Logger) *limitedLog {
	return &limitedLog{log: l, limit: rate.NewLimiter(rate.Every(time.Second), 10)}
}

// warn logs a constant message with alternating keys and values.
func (l *limitedLog) warn(msg string, args ...any) {
	if !l.limit.Allow() {
		l.skipped.Add(1)
		return
	}
	if n := l.skipped.Swap(0); n > 0 {
		args = append(args, "similar_left_out", n)
	}
	l.log.Warn(msg, args...)
}

// BridgeLog sends what is printed through the global log package, which is where the
// milter library prints what it finds wrong with a session, to logger, at a bounded
// rate. It is for the program's main to call once; restore undoes it.
func BridgeLog(logger *slog.Logger) (restore func()) {
	output, flags, prefix := log.Writer(), log.Flags(), log.Prefix()
	log.SetOutput(bridge{newLimitedLog(logger)})
	log.SetFlags(0)
	log.SetPrefix("")
	return func() {
		log.SetOutput(output)
		log.SetFlags(flags)
		log.SetPrefix(prefix)
	}
}

// bridge gets one line, or one text of several lines, with each Write.
type bridge struct{ to *limitedLog }

func (b bridge) Write(p []byte) (int, error) {
	b.to.warn("milter library", "detail", escaped(string(bytes.TrimSpace(p))))
	return len(p), nil
}
