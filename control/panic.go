package control

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// errPanic is the answer to a request that panicked.
var errPanic = errors.New("internal error (panic); see the log of the daemon, and please report it")

// recovering answers a request that panics with an error.
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
				panic(http.ErrAbortHandler) // the client must see that the answer is incomplete
			}
			writeFailure(w, http.StatusInternalServerError, errPanic)
		}()
		next.ServeHTTP(began, r)
	})
}

// beginning records whether the answer has begun.
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

// Unwrap is used by http.ResponseController.
func (b *beginning) Unwrap() http.ResponseWriter { return b.ResponseWriter }
