package logging

import (
	"fmt"
	"log/slog"
	"log/syslog"
	"time"
)

// syslogRetry is the pause between attempts to connect to a syslogd that is down.
const syslogRetry = time.Second

// devLog is the path at which syslogd listens.
const devLog = "/dev/log"

// syslogger sends lines to syslogd in the traditional format. While syslogd is down they go to
// the fallback. One goroutine uses it.
type syslogger struct {
	path     string
	program  string
	fallback func(line) // must not wait

	facility syslog.Priority
	to       *syslog.Writer // nil while syslogd is down
	tried    time.Time      // time of the last attempt to connect
}

// syslogDroppedNotice returns the line that syslogd gets in place of n lines.
func syslogDroppedNotice(n int64, next line) line {
	return line{facility: next.facility, level: slog.LevelWarn,
		text: fmt.Sprintf(`warning: msg="dropped lines, syslogd is too slow" lines=%d`, n)}
}

// write writes a line. It has no error: a line that syslogd does not take has a fallback.
func (s *syslogger) write(l line) error {
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
			return nil
		}
		s.to.Close()
		s.to = nil
	}
	s.fallback(l)
	return nil
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

func (s *syslogger) priority(l line) error {
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
