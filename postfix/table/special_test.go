package table

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// within fails the test if f has not returned after ten seconds. Opening a FIFO may wait for a
// writer; within then opens it as one, so f ends.
func within(t *testing.T, fifo string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("it waits for a writer of the FIFO")
		if w, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			w.Close()
		}
		<-done
	}
}

// TestFIFO: a FIFO in place of a file is an error, and blocks neither the look at the files nor a
// reload.
func TestFIFO(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@corp.example OK\n"})
	fifo := w.path("one")
	if err := os.Remove(fifo); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, fifo, func() { w.tables.Pass(); w.tables.Pass() })
	w.knows("a FIFO in its place", "ann@corp.example", "")
	if s := w.tables.Status(); s[0].Trouble == "" {
		t.Error("no trouble")
	}
	within(t, fifo, func() { w.use(fifo) })
	w.knows("after a reload", "ann@corp.example", "")
	within(t, fifo, func() {
		if _, err := ReadFile(fifo); err == nil {
			t.Error("ReadFile: no error")
		}
	})
	within(t, fifo, func() {
		if err := Replace(fifo, func(io.Writer) error { return nil }); err == nil {
			t.Error("Replace: no error")
		}
	})
}
