// Package logging writes the log of a daemon: as text or JSON, to standard error, to systemd's
// journal or to syslog. Form, level and destination change while loggers are in use.
//
// Logging never waits for a destination. Lines wait in a bounded queue, and are dropped and
// counted if the destination is too slow or fails.
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
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// Options choose what the log contains and where it goes.
type Options struct {
	Format string // "text" or "json"
	Level  string // "debug", "info", "warn" or "error"; info for any other
	Syslog string // facility of syslog, such as "mail"; empty writes to standard error
}

// LevelProbe is the level of a record that takes the way of every line, at any level of the log,
// and is discarded where the line would be written. A caller that logs one learns whether logging
// would delay it.
const LevelProbe = slog.LevelError + 1000

// closePatience limits the time in which Close writes the lines that wait.
const closePatience = 2 * time.Second

// Log is the log of a program. Set changes it for all its loggers.
type Log struct {
	out     io.Writer
	journal bool // standard error is systemd's journal, which adds time and level
	stderr  *queue
	syslog  *queue
	syslogd *syslogger
	options atomic.Pointer[Options]
	to      atomic.Pointer[slog.Handler]
}

// New returns a log that writes to stderr, or to syslog under the name of the program. Nothing is
// written before Run is called.
func New(stderr io.Writer, program string, o Options) *Log {
	l := &Log{out: &lockedWriter{to: stderr}}
	l.stderr = newQueue("standard error", l.write, l.droppedNotice)
	l.syslogd = &syslogger{path: devLog, program: program, fallback: l.stderr.send}
	l.syslog = newQueue("syslogd", l.syslogd.write, syslogDroppedNotice)
	if stderr == os.Stderr {
		l.journal, _ = journal.StderrIsJournalStream()
	}
	l.Set(o)
	return l
}

// Set changes the form and the destination of all later lines.
func (l *Log) Set(o Options) {
	l.options.Store(&o)
	send := l.stderr.send
	if o.Syslog != "" {
		send = l.syslog.send
	}
	h := l.newHandler(o, send)
	l.to.Store(&h)
}

// newHandler returns a handler that passes finished lines on.
func (l *Log) newHandler(o Options, send func(line)) slog.Handler {
	var level slog.Level
	if level.UnmarshalText([]byte(o.Level)) != nil {
		level = slog.LevelInfo
	}
	switch {
	case o.Syslog != "":
		facility := facilities[o.Syslog]
		return newLineHandler(o.Format, level, withoutTime, func(at slog.Level, text string) {
			send(line{facility: facility, level: at, text: severityWord(at) + text})
		})
	case l.journal:
		return newLineHandler(o.Format, level, withoutTime, func(at slog.Level, text string) {
			send(line{level: at, text: fmt.Sprintf("<%d>%s", priority(at), text)})
		})
	}
	return newLineHandler(o.Format, level, nil, func(at slog.Level, text string) {
		send(line{level: at, text: text})
	})
}

// write writes a line to standard error.
func (l *Log) write(x line) error {
	_, err := io.WriteString(l.out, x.text+"\n")
	return err
}

// droppedNotice returns the line that standard error gets in place of n lines, in the present
// form.
func (l *Log) droppedNotice(n int64, _ line) (notice line) {
	o := *l.options.Load()
	o.Syslog, o.Level = "", ""
	h := l.newHandler(o, func(x line) { notice = x })
	slog.New(h).Warn("dropped lines, standard error is too slow or fails", "lines", n)
	return notice
}

// Dropped returns the number of lines that were dropped since the start.
func (l *Log) Dropped() int64 { return l.stderr.dropped.Load() + l.syslog.dropped.Load() }

// Trouble returns why lines cannot be written at present; empty if they can.
func (l *Log) Trouble() string {
	if t := l.stderr.trouble(); t != "" {
		return t
	}
	return l.syslog.trouble()
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

// Run writes lines until Close is called.
func (l *Log) Run() {
	var running sync.WaitGroup
	running.Go(l.stderr.run)
	l.syslog.run()
	running.Wait()
}

// Close writes the lines that wait, for at most 2 seconds. All later lines go to standard error
// as text, without a queue. Run must have been called.
func (l *Log) Close() {
	var h slog.Handler = withoutProbes{newHandler(l.out, "text", &slog.HandlerOptions{})}
	l.to.Store(&h)
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	l.syslog.close(ctx) // what syslogd does not take goes to standard error
	l.stderr.close(ctx)
}

// withoutProbes is a handler that writes no record of LevelProbe.
type withoutProbes struct{ slog.Handler }

func (h withoutProbes) Enabled(ctx context.Context, level slog.Level) bool {
	return level != LevelProbe && h.Handler.Enabled(ctx, level)
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

// lineHandler passes finished lines on, without a newline at the end.
type lineHandler struct {
	slog.Handler
	*lines
}

// lines has the line that a handler writes. The lock is held for the time of formatting one.
type lines struct {
	mu   sync.Mutex
	line bytes.Buffer
	emit func(slog.Level, string) // must not wait
}

func newLineHandler(format string, level slog.Level, replace func([]string, slog.Attr) slog.Attr,
	emit func(slog.Level, string)) slog.Handler {
	l := &lines{emit: emit}
	return lineHandler{newHandler(&l.line, format, &slog.HandlerOptions{Level: level, ReplaceAttr: replace}), l}
}

// withoutTime omits time and level, which the receiver of the line adds.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
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
