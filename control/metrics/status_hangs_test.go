package metrics

import (
	"context"
	"net/http/httptest"
	"testing"

	"rcpt-milter/control"
)

// stuck is a daemon that answers recipients, and whose Status hangs, as with a password file on a
// file system that does not answer.
type stuck struct{ asked, free chan struct{} }

func (s stuck) Status(context.Context) (control.Status, error) {
	s.asked <- struct{}{}
	<-s.free
	return control.Status{}, nil
}

func (stuck) Ready(context.Context) error { return nil }

// TestStatusHangs: /readyz ends with its request, and waits for one Status at a time.
func TestStatusHangs(t *testing.T) {
	s := stuck{make(chan struct{}, 2), make(chan struct{})}
	defer close(s.free)
	h := New("v").Handler(s, func() []string { return nil }, nil)
	for range 3 {
		ctx, leave := context.WithCancel(t.Context())
		request := httptest.NewRequestWithContext(ctx, "GET", "http://localhost/readyz", nil)
		ended := make(chan int)
		go func() {
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, request)
			ended <- answer.Code
		}()
		if len(s.asked) == 0 {
			s.asked <- <-s.asked // the first request has asked
		}
		leave()
		if code := <-ended; code != 503 {
			t.Errorf("code %d", code)
		}
	}
	if len(s.asked) != 1 {
		t.Errorf("%d calls of Status at once", len(s.asked))
	}
}
