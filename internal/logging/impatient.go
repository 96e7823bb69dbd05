package logging

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
)

// impatience limits the time of one write to an Impatient writer. Tests change it.
var impatience = 2 * time.Second

// Impatient returns a writer that gives up a write after 2 seconds, with os.ErrDeadlineExceeded,
// and then fails at once. It is for the last words of a process, which must end even if no process
// reads them.
func Impatient(to io.Writer) io.Writer { return &impatient{to: to} }

type impatient struct {
	mu     sync.Mutex
	to     io.Writer
	gaveUp bool
}

func (w *impatient) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gaveUp {
		return 0, os.ErrDeadlineExceeded
	}
	b = bytes.Clone(b) // the goroutine may outlive this call
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := w.to.Write(b)
		done <- result{n, err}
	}()
	limit := time.NewTimer(impatience)
	defer limit.Stop()
	select {
	case r := <-done:
		return r.n, r.err
	case <-limit.C:
		w.gaveUp = true
		return 0, os.ErrDeadlineExceeded
	}
}
