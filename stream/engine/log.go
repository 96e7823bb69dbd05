package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// repeatInterval is how often the same warning or error of the server is logged. A client with wrong
// credentials tries again every few seconds.
const repeatInterval = time.Minute

// serverLog writes the log of the server to that of the daemon. It implements server.Logger.
type serverLog struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex           // guards the fields below
	logged  map[string]time.Time // by the format, of which the server has a fixed set
	dead    error                // the server cannot run
	message string               // the last error
	at      time.Time            // of message
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

// Tracef implements server.Logger. It discards.
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
		l.mu.Unlock()
	}
	if l.due(format) {
		l.log.Warn("error of the NATS server", "error", message)
	}
}

// Fatalf implements server.Logger. The process continues without the engine.
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

// due reports whether a message of this format is logged now.
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

// ofClient reports whether an error is about a client, which is no fault of the engine.
func ofClient(message string) bool {
	for _, sign := range []string{"authentication error", "Authorization", "TLS handshake error", " - cid:", "Violation"} {
		if strings.Contains(message, sign) {
			return true
		}
	}
	return false
}

// fatal returns why the server cannot run, or nil.
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
