package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// line is one line of a streamed answer: an event, or the end. If the end is missing, the
// connection was lost.
type line[E any] struct {
	Event *E       `json:"event,omitempty"`
	End   *lineEnd `json:"end,omitempty"`
}

type lineEnd struct {
	Error string `json:"error"` // empty on success
}

// pace selects how the lines of an answer are sent.
type pace int

const (
	live    pace = iota // flush each line, with a write timeout
	patient             // flush each line, without a timeout: the client may show it in a pager
	bulk                // do not flush lines, without a timeout
)

// stream sends the events of work as lines. The HTTP status is sent before the outcome is
// known. tell returns an error if the client has disconnected.
func stream[E any](w http.ResponseWriter, r *http.Request, p pace,
	work func(ctx context.Context, tell func(E) error) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := &lineWriter{w: w, control: http.NewResponseController(w)}
	lines.control.SetReadDeadline(time.Time{}) // the request is complete
	lines.write(line[E]{}, live)               // confirms the request
	defer func() {                             // report a panic in the stream, then let the server handle it
		if v := recover(); v != nil {
			lines.write(line[E]{End: &lineEnd{Error: errPanic.Error()}}, min(p, patient))
			panic(v)
		}
	}()
	err := work(r.Context(), func(e E) error {
		if err := r.Context().Err(); err != nil {
			return err
		}
		return lines.write(line[E]{Event: &e}, p)
	})
	end := &lineEnd{}
	if err != nil {
		end.Error = err.Error()
	}
	lines.write(line[E]{End: end}, min(p, patient))
}

// lineWriter sends JSON values as lines.
type lineWriter struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
}

func (l *lineWriter) write(line any, p pace) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var deadline time.Time // none for slow readers; Close of the server ends them
	if p == live {
		deadline = time.Now().Add(lineTimeout)
	}
	l.control.SetWriteDeadline(deadline)
	if err := json.NewEncoder(l.w).Encode(line); err != nil {
		return err
	}
	if p != bulk {
		return l.control.Flush()
	}
	return nil
}

// receive sends a request and visits the events of the answer. It returns the error of visit,
// or of the end of the answer.
func receive[E any](ctx context.Context, c *Client, method, path string, body io.Reader, visit func(E) error) error {
	response, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for lines := json.NewDecoder(response.Body); ; {
		var l line[E]
		if err := lines.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: the connection was lost before the end of the answer (%w)", ErrNotReachable, err)
		}
		switch {
		case l.End != nil && l.End.Error != "":
			return errors.New(l.End.Error)
		case l.End != nil:
			return nil
		case l.Event != nil:
			if err := visit(*l.Event); err != nil {
				return err
			}
		}
	}
}
