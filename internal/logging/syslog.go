package logging

import (
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"sync/atomic"
	"time"
)

const (
	// syslogPending is the number of lines that wait for a slow syslogd.
	syslogPending = 4096

	// syslogPatience limits the time in which close writes the lines that are left.
	syslogPatience = 2 * time.Second

	// syslogRetry is the pause between attempts to connect to a syslogd that is down.
	syslogRetry = time.Second
)

// devLog is the path at which syslogd listens.
const devLog = "/dev/log"

// syslogger sends lines to syslogd in the traditional format. Logging never blocks: lines wait in
// a queue, and are dropped and counted when syslogd is too slow. While syslogd is down they go to
// the fallback.
type syslogger struct {
	path     string
	program  string
	fallback io.Writer
	lines    chan syslogLine
	lost     atomic.Int64 // dropped and not reported yet

	stop, ended chan struct{}

	// Used by the goroutine of run only.
	facility syslog.Priority
	to       *syslog.Writer // nil while syslogd is down
	tried    time.Time      // time of the last attempt to connect
}

type syslogLine struct {
	facility syslog.Priority
	level    slog.Level
	text     string
}

func newSyslogger(path, program string, fallback io.Writer) *syslogger {
	return &syslogger{path: path, program: program, fallback: fallback, lines: make(chan syslogLine, syslogPending),
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

// run writes lines until close is called, and then those that are left.
func (s *syslogger) run() {
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

// close stops run and waits for the lines that are left, for at most syslogPatience.
func (s *syslogger) close() {
	close(s.stop)
	select {
	case <-s.ended:
	case <-time.After(syslogPatience):
	}
}

// write writes a line, after a warning with the number of dropped lines.
func (s *syslogger) write(l syslogLine) {
	if n := s.lost.Swap(0); n > 0 {
		s.put(syslogLine{l.facility, slog.LevelWarn,
			fmt.Sprintf(`warning: msg="dropped lines, syslogd is too slow" lines=%d`, n)})
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
		s.facility, s.to = l.facility, s.dial(l.facility)
	}
	if s.to != nil {
		if s.priority(l) == nil { // package syslog reconnects after a restart of syslogd
			return
		}
		s.to.Close()
		s.to = nil
	}
	fmt.Fprintln(s.fallback, l.text)
}

// dial connects to syslogd by datagrams or as a stream. It returns nil if syslogd is down.
func (s *syslogger) dial(facility syslog.Priority) *syslog.Writer {
	for _, network := range []string{"unixgram", "unix"} {
		if to, err := syslog.Dial(network, s.path, facility|syslog.LOG_INFO, s.program); err == nil {
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

// facilities are those of RFC 5424 section 6.2.1 that a daemon may write to.
var facilities = map[string]syslog.Priority{
	"mail": syslog.LOG_MAIL, "daemon": syslog.LOG_DAEMON, "user": syslog.LOG_USER, "auth": syslog.LOG_AUTH,
	"authpriv": syslog.LOG_AUTHPRIV, "cron": syslog.LOG_CRON, "ftp": syslog.LOG_FTP, "lpr": syslog.LOG_LPR,
	"news": syslog.LOG_NEWS, "syslog": syslog.LOG_SYSLOG, "uucp": syslog.LOG_UUCP,
	"local0": syslog.LOG_LOCAL0, "local1": syslog.LOG_LOCAL1, "local2": syslog.LOG_LOCAL2,
	"local3": syslog.LOG_LOCAL3, "local4": syslog.LOG_LOCAL4, "local5": syslog.LOG_LOCAL5,
	"local6": syslog.LOG_LOCAL6, "local7": syslog.LOG_LOCAL7,
}

// IsFacility reports whether Options.Syslog may have this name.
func IsFacility(name string) bool {
	_, known := facilities[name]
	return known
}
