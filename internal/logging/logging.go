package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coreos/go-systemd/v22/journal"
)

// Log is the log of the daemon. A reload changes its level, its form and where it goes
// under everybody who has a logger of it.
type Log struct {
	stderr  io.Writer
	journal bool // standard error is systemd's journal, which has times and levels of its own
	syslog  *syslogger
	to      atomic.Pointer[slog.Handler]
}

func New(stderr io.Writer, program string, c Options) *Log {
	own := &oneAtATime{to: stderr}
	l := &Log{stderr: own, syslog: newSyslogger(devLog, program, own)}
	if stderr == os.Stderr {
		l.journal, _ = journal.StderrIsJournalStream()
	}
	l.Set(c)
	return l
}

// Set changes how the next lines look and where they go. The configuration has been
// checked, so that every level it can name is one of slog's.
func (l *Log) Set(c Options) {
	var level slog.Level
	if level.UnmarshalText([]byte(c.Level)) != nil {
		level = slog.LevelInfo
	}
	var h slog.Handler
	switch {
	case c.Syslog != "":
		facility := facilityOf(c.Syslog)
		h = newLined(c.Format, level, func(at slog.Level, text string) {
			l.syslog.send(syslogLine{facility, at, inWord(at) + text})
		})
	case l.journal:
		h = newLined(c.Format, level, func(at slog.Level, text string) {
			fmt.Fprintf(l.stderr, "<%d>%s\n", priority(at), text)
		})
	default:
		h = newHandler(l.stderr, c.Format, &slog.HandlerOptions{Level: level})
	}
	l.to.Store(&h)
}

// oneAtATime lets one line through after the other, also while a handler is replaced that
// somebody still writes with: each handler has a lock of its own.
type oneAtATime struct {
	mu sync.Mutex
	to io.Writer
}

func (o *oneAtATime) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(line)
}

func newHandler(to io.Writer, format string, o *slog.HandlerOptions) slog.Handler {
	if format == "json" {
		o = &slog.HandlerOptions{Level: o.Level, ReplaceAttr: readable(o.ReplaceAttr)}
		return slog.NewJSONHandler(to, o)
	}
	return slog.NewTextHandler(to, o)
}

// readable writes durations as text does, 1.5s: JSON would have bare nanoseconds. What else
// is replaced is up to next, where there is one.
func readable(next func([]string, slog.Attr) slog.Attr) func([]string, slog.Attr) slog.Attr {
	return func(groups []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		if next != nil {
			return next(groups, a)
		}
		return a
	}
}

// Run writes what goes to syslog, until Close is called.
func (l *Log) Run() { l.syslog.run() }

// Close writes what is left. From now on everything goes to standard error.
func (l *Log) Close() {
	h := newHandler(l.stderr, "text", &slog.HandlerOptions{})
	l.to.Store(&h)
	l.syslog.close()
}

// Logger gives a logger that follows every change.
func (l *Log) Logger() *slog.Logger { return slog.New(changing{to: &l.to}) }

// priority is a level in the numbers of syslog (RFC 5424 section 6.2.1).
func priority(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 3
	case level >= slog.LevelWarn:
		return 4
	case level >= slog.LevelInfo:
		return 6
	default:
		return 7
	}
}

// inWord marks what needs attention as Postfix does: mail.log does not show levels.
func inWord(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "error: "
	case level >= slog.LevelWarn:
		return "warning: "
	default:
		return ""
	}
}

// lined is a handler that gives finished lines, without what their receiver adds by
// itself: their time and level.
type lined struct {
	slog.Handler
	*lines
}

type lines struct {
	mu   sync.Mutex
	line bytes.Buffer
	emit func(slog.Level, string)
}

func newLined(format string, level slog.Level, emit func(slog.Level, string)) slog.Handler {
	l := &lines{emit: emit}
	return lined{newHandler(&l.line, format, &slog.HandlerOptions{Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		}}), l}
}

func (h lined) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	h.emit(r.Level, strings.TrimSuffix(h.line.String(), "\n"))
	return nil
}

func (h lined) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lined{h.Handler.WithAttrs(attrs), h.lines}
}

func (h lined) WithGroup(name string) slog.Handler {
	return lined{h.Handler.WithGroup(name), h.lines}
}

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

// Options choose the form, the level and the facility of syslog.
type Options struct{ Format, Level, Syslog string }
