package control

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// errPanic is the answer to a request that ended with a panic.
var errPanic = errors.New("an error in this program (panic); the log of the daemon has the details, please report it")

// recovering ends a request that panics with an error, and nothing else with it.
func recovering(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := &beginning{ResponseWriter: w}
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler {
				log.Error("panic", "in", r.Method+" "+r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			}
			if began.written {
				panic(http.ErrAbortHandler) // the client has to see that the answer is not complete
			}
			writeFailure(w, http.StatusInternalServerError, errPanic)
		}()
		next.ServeHTTP(began, r)
	})
}

// beginning notes whether an answer has begun.
type beginning struct {
	http.ResponseWriter
	written bool
}

func (b *beginning) Write(p []byte) (int, error) {
	b.written = true
	return b.ResponseWriter.Write(p)
}

func (b *beginning) WriteHeader(status int) {
	b.written = true
	b.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (b *beginning) Unwrap() http.ResponseWriter { return b.ResponseWriter }
