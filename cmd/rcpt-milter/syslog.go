package main

import (
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// syslogPending is how many lines wait for a syslogd that does not take them.
	syslogPending = 4096

	// syslogPatience is how long the last lines are waited for at the end.
	syslogPatience = 2 * time.Second

	// syslogRetry is how often at most a syslogd that is gone is looked for.
	syslogRetry = time.Second
)

// devLog is where syslogd listens.
const devLog = "/dev/log"

// syslogger hands lines to syslogd, in the traditional format. Whoever logs never waits:
// lines queue up, and are dropped and counted where syslogd does not keep pace. While
// there is none they go to standard error.
type syslogger struct {
	path     string
	fallback io.Writer
	lines    chan syslogLine
	lost     atomic.Int64 // dropped, and not told of yet

	stop, ended chan struct{}

	// Of the goroutine of Run.
	facility syslog.Priority
	to       *syslog.Writer // nil: there is none
	tried    time.Time      // when one was last looked for
}

type syslogLine struct {
	facility syslog.Priority
	level    slog.Level
	text     string
}

func newSyslogger(path string, fallback io.Writer) *syslogger {
	return &syslogger{path: path, fallback: fallback, lines: make(chan syslogLine, syslogPending),
		stop: make(chan struct{}), ended: make(chan struct{})}
}

// send queues a line. It never blocks.
func (s *syslogger) send(l syslogLine) {
	select {
	case s.lines <- l:
	default:
		s.lost.Add(1)
	}
}

// Run writes lines until end is called, and then those that are left.
func (s *syslogger) Run() {
	defer close(s.ended)
	for {
		select {
		case l := <-s.lines:
			s.write(l)
		case <-s.stop:
			s.flush()
			return
		}
	}
}

func (s *syslogger) flush() {
	for len(s.lines) > 0 {
		s.write(<-s.lines)
	}
	if s.to != nil {
		s.to.Close()
	}
}

// end waits for the lines that are left, though not for long.
func (s *syslogger) end() {
	close(s.stop)
	select {
	case <-s.ended:
	case <-time.After(syslogPatience):
	}
}

// write writes a line, and in front of it how many were dropped.
func (s *syslogger) write(l syslogLine) {
	if n := s.lost.Swap(0); n > 0 {
		s.put(syslogLine{l.facility, slog.LevelWarn, fmt.Sprintf("warning: msg=\"lines of the log were dropped, syslogd did not keep pace\" lines=%d", n)})
	}
	s.put(l)
}

func (s *syslogger) put(l syslogLine) {
	if s.to != nil && s.facility != l.facility {
		s.to.Close()
		s.to, s.tried = nil, time.Time{}
	}
	if s.to == nil && time.Since(s.tried) >= syslogRetry {
		s.tried = time.Now()
		s.facility, s.to = l.facility, dialSyslog(s.path, l.facility)
	}
	if s.to != nil {
		if s.priority(l) == nil { // it connects again by itself
			return
		}
		s.to.Close()
		s.to = nil
	}
	fmt.Fprintln(s.fallback, l.text)
}

// dialSyslog connects to syslogd: by datagrams, or as a stream where it wants that. Nil:
// it is not there.
func dialSyslog(path string, facility syslog.Priority) *syslog.Writer {
	for _, network := range []string{"unixgram", "unix"} {
		if to, err := syslog.Dial(network, path, facility|syslog.LOG_INFO, "rcpt-milter"); err == nil {
			return to
		}
	}
	return nil
}

func (s *syslogger) priority(l syslogLine) error {
	switch {
	case l.level >= slog.LevelError:
		return s.to.Err(l.text)
	case l.level >= slog.LevelWarn:
		return s.to.Warning(l.text)
	case l.level >= slog.LevelInfo:
		return s.to.Info(l.text)
	default:
		return s.to.Debug(l.text)
	}
}

// facilityOf gives a facility that the configuration names.
func facilityOf(name string) syslog.Priority {
	names := []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"}
	if at := slices.Index(names, name); at >= 0 {
		return syslog.Priority(at << 3)
	}
	var n int
	fmt.Sscanf(name, "local%d", &n)
	return syslog.LOG_LOCAL0 + syslog.Priority(n<<3)
}
