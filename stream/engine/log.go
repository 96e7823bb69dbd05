package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// repeatInterval is the shortest interval between two log lines with the same warning or error. A client with
// wrong credentials retries every few seconds.
const repeatInterval = time.Minute

// serverLog forwards the log of the server to the log of the daemon. It implements server.Logger.
type serverLog struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex           // guards the fields below
	logged  map[string]time.Time // time of the last line, by format; the server has a fixed set of formats
	dead    error                // set once the server cannot run
	message string               // the last error
	at      time.Time            // time of message
	write   string               // the first write error of a stream; empty means none
}

func newServerLog(log *slog.Logger, now func() time.Time) *serverLog {
	return &serverLog{log: log, now: now, logged: map[string]time.Time{}}
}

// Noticef implements server.Logger.
func (l *serverLog) Noticef(format string, args ...any) { l.Debugf(format, args...) }

// Debugf implements server.Logger.
func (l *serverLog) Debugf(format string, args ...any) {
	l.log.Debug("message of the NATS server", "message", fmt.Sprintf(format, args...))
}

// Tracef implements server.Logger. It discards the message.
func (l *serverLog) Tracef(string, ...any) {}

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, args ...any) {
	if l.due(format) {
		l.log.Warn("warning of the NATS server", "message", fmt.Sprintf(format, args...))
	}
}

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if !ofClient(message) {
		l.mu.Lock()
		l.message, l.at = message, l.now()
		if l.write == "" && ofStore(message) {
			l.write = message
		}
		l.mu.Unlock()
	}
	if l.due(format) {
		l.log.Warn("error of the NATS server", "error", message)
	}
}

// Fatalf implements server.Logger. It records that the server cannot run; the daemon continues without it.
func (l *serverLog) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead == nil {
		l.dead = errors.New(message)
	}
	l.message, l.at = message, l.now()
	l.log.Error("the NATS server cannot run", "error", message)
}

// due reports whether a message with this format may be logged now.
func (l *serverLog) due(format string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if last, seen := l.logged[format]; seen && now.Sub(last) < repeatInterval {
		return false
	}
	l.logged[format] = now
	return true
}

// ofClient reports whether an error is about a client. Such an error is not a fault of the engine.
func ofClient(message string) bool {
	for _, sign := range []string{"authentication error", "Authorization", "TLS handshake error", " - cid:",
		"Violation"} {
		if strings.Contains(message, sign) {
			return true
		}
	}
	return false
}

// ofStore reports whether an error means that a stream could not write. The server keeps such an error: the
// stream takes no messages until it is opened again, even if the disk has space again.
func ofStore(message string) bool {
	return strings.Contains(strings.ToLower(message), "critical write error") ||
		strings.Contains(message, "failed to store a msg")
}

// writeError returns the first write error of a stream since the last call of forgetWriteError.
func (l *serverLog) writeError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write
}

// forgetWriteError is called when the streams are opened again.
func (l *serverLog) forgetWriteError() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write = ""
}

// fatal returns why the server cannot run. It returns nil while the server can run.
func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// last returns the last error and its time.
func (l *serverLog) last() (string, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.message, l.at
}
