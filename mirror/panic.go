package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// ErrPanic says that something ended with a panic, which is an error of this program. The
// log has the stack.
var ErrPanic = errors.New("an error in this program (panic); the log has the details, please report it")

// Safely does something and turns a panic in it into an error. It is for everything that
// runs in a goroutine of its own, where a panic would end the daemon.
func Safely(log *slog.Logger, what string, do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: %w: %v", what, ErrPanic, v)
			log.Error("panic", "in", what, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	return do()
}
