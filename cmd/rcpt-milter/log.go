package main

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"rcpt-milter/config"
)

// logging is the log of the daemon. A reload changes its level and form under everybody
// who has a logger of it.
type logging struct {
	out io.Writer
	to  atomic.Pointer[slog.Handler]
}

func newLogging(out io.Writer, c config.Log) *logging {
	l := &logging{out: out}
	l.Set(c)
	return l
}

// Set changes how the next lines look. The configuration has been checked, so that every
// level it can name is one of slog's.
func (l *logging) Set(c config.Log) {
	var level slog.Level
	if level.UnmarshalText([]byte(c.Level)) != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(l.out, options)
	if c.Format == "json" {
		h = slog.NewJSONHandler(l.out, options)
	}
	l.to.Store(&h)
}

// Logger gives a logger that follows every change.
func (l *logging) Logger() *slog.Logger { return slog.New(changing{to: &l.to}) }

// changing is a handler that hands over to another one, which may change.
type changing struct {
	to   *atomic.Pointer[slog.Handler]
	with []func(slog.Handler) slog.Handler // what its logger always adds, in this order
}

func (h changing) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.to.Load()).Enabled(ctx, level)
}

func (h changing) Handle(ctx context.Context, r slog.Record) error {
	to := *h.to.Load()
	for _, with := range h.with {
		to = with(to)
	}
	return to.Handle(ctx, r)
}

func (h changing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

func (h changing) WithGroup(name string) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h changing) and(with func(slog.Handler) slog.Handler) slog.Handler {
	return changing{h.to, append(h.with[:len(h.with):len(h.with)], with)}
}
