// Package logging writes the log of a daemon: as text or JSON, to standard error, to systemd's
// journal or to syslog. Form, level and destination change while loggers are in use.
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

// Options choose what the log contains and where it goes.
type Options struct {
	Format string // "text" or "json"
	Level  string // "debug", "info", "warn" or "error"; info for any other
	Syslog string // facility of syslog, such as "mail"; empty writes to standard error
}

// Log is the log of a program. Set changes it for all its loggers.
type Log struct {
	stderr  io.Writer
	journal bool // standard error is systemd's journal, which adds time and level
	syslog  *syslogger
	to      atomic.Pointer[slog.Handler]
}

// New returns a log that writes to stderr, or to syslog under the name of the program. Nothing
// reaches syslog before Run is called.
func New(stderr io.Writer, program string, o Options) *Log {
	locked := &lockedWriter{to: stderr}
	l := &Log{stderr: locked, syslog: newSyslogger(devLog, program, locked)}
	if stderr == os.Stderr {
		l.journal, _ = journal.StderrIsJournalStream()
	}
	l.Set(o)
	return l
}

// Set changes the form and the destination of all later lines.
func (l *Log) Set(o Options) {
	var level slog.Level
	if level.UnmarshalText([]byte(o.Level)) != nil {
		level = slog.LevelInfo
	}
	var h slog.Handler
	switch {
	case o.Syslog != "":
		facility := facilities[o.Syslog]
		h = newLineHandler(o.Format, level, func(at slog.Level, text string) {
			l.syslog.send(syslogLine{facility, at, severityWord(at) + text})
		})
	case l.journal:
		h = newLineHandler(o.Format, level, func(at slog.Level, text string) {
			fmt.Fprintf(l.stderr, "<%d>%s\n", priority(at), text)
		})
	default:
		h = newHandler(l.stderr, o.Format, &slog.HandlerOptions{Level: level})
	}
	l.to.Store(&h)
}

// lockedWriter writes one line at a time. Each handler has a lock of its own, and while Set
// replaces a handler both may write.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(line)
}

func newHandler(to io.Writer, format string, o *slog.HandlerOptions) slog.Handler {
	if format == "json" {
		o = &slog.HandlerOptions{Level: o.Level, ReplaceAttr: readableDurations(o.ReplaceAttr)}
		return slog.NewJSONHandler(to, o)
	}
	return slog.NewTextHandler(to, o)
}

// readableDurations returns a ReplaceAttr that writes durations as text does, 1.5s, since JSON
// would have bare nanoseconds. It then calls next unless that is nil.
func readableDurations(next func([]string, slog.Attr) slog.Attr) func([]string, slog.Attr) slog.Attr {
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

// Run writes the lines for syslog until Close is called.
func (l *Log) Run() { l.syslog.run() }

// Close writes the lines that wait for syslog. All later lines go to standard error as text. Run
// must have been called.
func (l *Log) Close() {
	h := newHandler(l.stderr, "text", &slog.HandlerOptions{})
	l.to.Store(&h)
	l.syslog.close()
}

// Logger returns a logger that follows every change by Set.
func (l *Log) Logger() *slog.Logger { return slog.New(indirect{to: &l.to}) }

// priority returns the severity of a level in syslog (RFC 5424 section 6.2.1).
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

// severityWord returns the prefix by which Postfix marks errors and warnings in mail.log, which
// does not show levels.
func severityWord(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "error: "
	case level >= slog.LevelWarn:
		return "warning: "
	default:
		return ""
	}
}

// lineHandler passes finished lines on, without time and level, which their receiver adds.
type lineHandler struct {
	slog.Handler
	*lines
}

type lines struct {
	mu   sync.Mutex
	line bytes.Buffer
	emit func(slog.Level, string)
}

func newLineHandler(format string, level slog.Level, emit func(slog.Level, string)) slog.Handler {
	l := &lines{emit: emit}
	return lineHandler{newHandler(&l.line, format, &slog.HandlerOptions{Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		}}), l}
}

func (h lineHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	h.emit(r.Level, strings.TrimSuffix(h.line.String(), "\n"))
	return nil
}

func (h lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lineHandler{h.Handler.WithAttrs(attrs), h.lines}
}

func (h lineHandler) WithGroup(name string) slog.Handler {
	return lineHandler{h.Handler.WithGroup(name), h.lines}
}

// indirect is a handler that calls another one, which may change.
type indirect struct {
	to   *atomic.Pointer[slog.Handler]
	with []func(slog.Handler) slog.Handler // attributes and groups of its logger, in order
}

func (h indirect) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.to.Load()).Enabled(ctx, level)
}

func (h indirect) Handle(ctx context.Context, r slog.Record) error {
	to := *h.to.Load()
	for _, with := range h.with {
		to = with(to)
	}
	return to.Handle(ctx, r)
}

func (h indirect) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

func (h indirect) WithGroup(name string) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h indirect) and(with func(slog.Handler) slog.Handler) slog.Handler {
	return indirect{h.to, append(h.with[:len(h.with):len(h.with)], with)}
}
