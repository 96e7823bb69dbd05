package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// ErrPanic means that something panicked, which is a bug of this program. The log has the stack.
var ErrPanic = errors.New("internal error (panic); the log has the details, please report it")

// Safely calls do and turns a panic into an error. A panic in a goroutine of its own would end the daemon.
func Safely(log *slog.Logger, what string, do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: %w: %v", what, ErrPanic, v)
			log.Error("panic", "in", what, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	return do()
}
