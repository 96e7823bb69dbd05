package logging

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// TestImpatient: a write that is taken is an ordinary one; one that is not ends.
func TestImpatient(t *testing.T) {
	var out bytes.Buffer
	if n, err := Impatient(&out).Write([]byte("text")); n != 4 || err != nil || out.String() != "text" {
		t.Errorf("%d, %v, %q", n, err, out.String())
	}
	defer func(before time.Duration) { impatience = before }(impatience)
	impatience = time.Millisecond
	r, unread := io.Pipe()
	defer r.Close()
	w := Impatient(unread)
	for range 2 {
		if n, err := w.Write([]byte("text")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
	}
}
