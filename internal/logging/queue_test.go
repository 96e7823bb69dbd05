package logging

import (
	"errors"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// readDropped returns the number of lines of a log, and the number that its notices have.
func readDropped(text string) (lines, dropped int) {
	notice := regexp.MustCompile(`level=WARN msg="dropped lines, standard error is too slow or fails" lines=(\d+)`)
	for _, found := range notice.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(found[1])
		dropped += n
	}
	return strings.Count(text, " msg=line "), dropped
}

// TestUnreadPipe checks that a standard error that no process reads delays no caller, that dropped
// lines are counted, and that the lines that fit arrive when the reader is back.
func TestUnreadPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := New(w, "rcpt-milter", Options{Format: "text", Level: "info"})
	go l.Run()
	const sent = maxPending + 5000 // more than wait here and in the pipe
	for i := range sent {
		l.Logger().Info("line", "i", i, "pad", strings.Repeat("x", 100))
	}
	dropped := l.Dropped()
	if why := l.Trouble(); dropped == 0 || !strings.Contains(why, "cannot log to standard error") {
		t.Fatalf("%d dropped, trouble %q", dropped, why)
	}
	text := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		text <- string(all)
	}()
	for l.Trouble() != "" { // a later line is written
		l.Logger().Info("back")
	}
	dropped = l.Dropped()
	l.Close()
	w.Close()
	lines, reported := readDropped(<-text)
	if int64(reported) != dropped || lines == 0 || lines >= sent {
		t.Errorf("%d lines of %d, %d dropped, %d of them reported", lines, sent, dropped, reported)
	}
}

// TestPendingBytes checks that few long lines cannot take more memory than many short ones.
func TestPendingBytes(t *testing.T) {
	q := newQueue("nothing", nil, nil)
	long := line{text: strings.Repeat("x", maxPendingBytes/10)}
	for range 100 {
		q.send(long)
	}
	if n := len(q.lines); n != 10 || q.dropped.Load() != 90 {
		t.Errorf("%d lines wait, %d dropped", n, q.dropped.Load())
	}
}

// TestCloseIsBounded checks that Close returns while a line is being written forever.
func TestCloseIsBounded(t *testing.T) {
	r, w := io.Pipe()
	l := New(w, "rcpt-milter", Options{})
	go l.Run()
	l.Logger().Info("never read")
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close does not return")
	}
	r.Close()
	<-l.stderr.ended
}

// flakyWriter fails or panics on demand.
type flakyWriter struct {
	mu   sync.Mutex
	how  error // io.ErrUnexpectedEOF panics
	text strings.Builder
}

func (w *flakyWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.how == io.ErrUnexpectedEOF {
		panic("in the writer")
	}
	if w.how != nil {
		return 0, w.how
	}
	return w.text.Write(b)
}

func (w *flakyWriter) set(how error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.how = how
}

// TestFailingWriter checks that lines are counted that cannot be written, and that the log goes on
// when they can.
func TestFailingWriter(t *testing.T) {
	var w flakyWriter
	l := New(&w, "rcpt-milter", Options{Format: "text", Level: "error"}) // the notice is a warning
	go l.Run()
	for i, c := range []struct {
		how  error
		want string
	}{{errors.New("no space left on device"), "no space left"}, {io.ErrUnexpectedEOF, "panic: in the writer"}} {
		w.set(c.how)
		l.Logger().Error("line", "i", i)
		for !strings.Contains(l.Trouble(), c.want) {
			if t.Context().Err() != nil {
				t.Fatalf("trouble %q, want %q", l.Trouble(), c.want)
			}
		}
		w.set(nil)
		l.Logger().Error("line", "i", i)
		for l.Trouble() != "" {
			if t.Context().Err() != nil {
				t.Fatalf("trouble stays: %q", l.Trouble())
			}
		}
	}
	l.Close()
	if lines, dropped := readDropped(w.text.String()); lines != 2 || dropped != 2 || l.Dropped() != 2 {
		t.Errorf("%d lines, %d dropped, want 2 and 2:\n%s", lines, dropped, w.text.String())
	}
}

// TestStuckLine checks that a line that is not taken is noticed before the queue is full.
func TestStuckLine(t *testing.T) {
	q := newQueue("nothing", nil, nil)
	q.writing.Store(time.Now().Add(-2 * stuckAfter).UnixNano())
	if got := q.trouble(); got != "cannot log to nothing: it has taken no line for 10s" {
		t.Errorf("trouble %q", got)
	}
	q.writing.Store(time.Now().UnixNano())
	if got := q.trouble(); got != "" {
		t.Errorf("trouble %q", got)
	}
}
