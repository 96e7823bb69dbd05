package logging

import (
	"context"
	"fmt"
	"log/slog"
	"log/syslog"
	"sync/atomic"
	"time"
)

// Limits of the lines that wait for one destination.
const (
	maxPending      = 4096
	maxPendingBytes = 8 << 20
)

// stuckAfter is how long writing one line may take before that is trouble.
const stuckAfter = 5 * time.Second

// line is a finished line without a newline at its end.
type line struct {
	facility syslog.Priority // for syslogd
	level    slog.Level
	text     string
}

// queue writes lines to one destination in a goroutine of its own. It drops and counts the lines
// that do not fit, and those that cannot be written.
type queue struct {
	destination string // in words
	write       func(line) error
	notice      func(n int64, next line) line // stands for n lines that were dropped before next

	lines   chan line
	bytes   atomic.Int64 // of the lines that wait
	lost    atomic.Int64 // dropped and not reported yet
	dropped atomic.Int64 // since the start

	failure atomic.Pointer[string] // why the last line was dropped; nil if a later one was written
	writing atomic.Int64           // since when a line is being written, in Unix nanoseconds; 0 if none is

	stop, ended chan struct{}
}

func newQueue(destination string, write func(line) error, notice func(int64, line) line) *queue {
	return &queue{destination: destination, write: write, notice: notice, lines: make(chan line, maxPending),
		stop: make(chan struct{}), ended: make(chan struct{})}
}

// send queues a line. It never waits.
func (q *queue) send(l line) {
	if q.bytes.Add(int64(len(l.text))) <= maxPendingBytes {
		select {
		case q.lines <- l:
			return
		default:
		}
	}
	q.bytes.Add(-int64(len(l.text)))
	q.drop(l, "it takes no lines or too few")
}

func (q *queue) drop(l line, why string) {
	if l.level == LevelProbe {
		return
	}
	q.lost.Add(1)
	q.dropped.Add(1)
	q.failure.Store(&why)
}

// run writes lines until close is called, and then those that wait.
func (q *queue) run() {
	defer close(q.ended)
	for {
		select {
		case l := <-q.lines:
			q.put(l)
		case <-q.stop:
			for len(q.lines) > 0 {
				q.put(<-q.lines)
			}
			return
		}
	}
}

// put writes a line, after a notice about dropped lines.
func (q *queue) put(l line) {
	q.bytes.Add(-int64(len(l.text)))
	if l.level == LevelProbe {
		return
	}
	defer func() {
		if v := recover(); v != nil { // the log cannot report its own end
			q.drop(l, fmt.Sprintf("panic: %v", v))
		}
		q.writing.Store(0)
	}()
	q.writing.Store(time.Now().UnixNano())
	if n := q.lost.Load(); n > 0 && q.write(q.notice(n, l)) == nil {
		q.lost.Add(-n)
	}
	if err := q.write(l); err != nil {
		q.drop(l, err.Error())
	} else {
		q.failure.Store(nil)
	}
}

// close ends run after the lines that wait, or returns when ctx ends.
func (q *queue) close(ctx context.Context) {
	close(q.stop)
	select {
	case <-q.ended:
	case <-ctx.Done():
	}
}

// trouble returns why lines cannot be written at present; empty if they can.
func (q *queue) trouble() string {
	if why := q.failure.Load(); why != nil {
		return fmt.Sprintf("cannot log to %s: %s", q.destination, *why)
	}
	began := q.writing.Load()
	if took := time.Since(time.Unix(0, began)); began != 0 && took > stuckAfter {
		return fmt.Sprintf("cannot log to %s: it has taken no line for %s", q.destination, took.Round(time.Second))
	}
	return ""
}
