// Package safely calls functions that may panic.
package safely

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// ErrPanic means that something panicked, which is a bug of this program. The log has the stack.
var ErrPanic = errors.New("internal error (panic); the log has the details, please report it")

// Do calls do, turns a panic into an error, and logs it with what as the attribute "in".
// Goroutines of the daemon need it: an unrecovered panic in one would end the daemon.
func Do(log *slog.Logger, what string, do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: %w: %v", what, ErrPanic, v)
			log.Error("panic", "in", what, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	return do()
}
