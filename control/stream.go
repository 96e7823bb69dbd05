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

// line is one line of an answer that comes in pieces: an event, or the end. Where the
// end is missing, the daemon went away in between.
type line[E any] struct {
	Event *E       `json:"event,omitempty"`
	End   *lineEnd `json:"end,omitempty"`
}

type lineEnd struct {
	Error string `json:"error"` // empty: what was asked for was done
}

// pace is how the lines of an answer are sent.
type pace int

const (
	live    pace = iota // each at once, to somebody who must take it soon
	patient             // each at once, to somebody who may take it page by page
	bulk                // as they fill packets, to the same
)

// stream answers with lines as work makes them, so its status is sent before it is
// known how it ends. An error of tell is that of a client that is gone.
func stream[E any](w http.ResponseWriter, r *http.Request, p pace,
	work func(ctx context.Context, tell func(E) error) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := &lineWriter{w: w, control: http.NewResponseController(w)}
	lines.control.SetReadDeadline(time.Time{}) // the client has said all it has to say
	lines.write(line[E]{}, live)               // so that the client knows that it was heard
	defer func() {                             // say so in the stream, and let the server deal with it
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

// lineWriter sends JSON values, each as a line.
type lineWriter struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
}

func (l *lineWriter) write(line any, p pace) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var deadline time.Time // of a reader who takes his time: none, and the end of the server cuts him off
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

// receive sends a request that is answered with lines, and visits the events. The
// error is that of visit, or the one that the answer ends with.
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
			return fmt.Errorf("%w any more: it went away before its answer had ended (%w)", ErrNotReachable, err)
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
