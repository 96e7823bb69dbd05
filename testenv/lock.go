package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// The locks of a checkout; see the package comment.
const (
	ownerLock = "owner.lock" // held by the process that started the harness and will take it down
	turnLock  = "turn.lock"  // held by the process that uses it now
)

// lockRetry is the interval between attempts to take a lock; flock(2) does not report when it
// becomes free.
const lockRetry = 100 * time.Millisecond

// lock takes a file lock of the checkout and returns the function that releases it. The kernel
// also releases it when the process dies. While another process holds the lock, lock calls wait
// once with that process.
func (c checkout) lock(ctx context.Context, name string, wait func(holder string)) (release func(), err error) {
	path, err := c.statePath(name)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("harness lock: %w", err)
	}
	notified := false
	err = Await(ctx, lockRetry, func(context.Context) (bool, error) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			if !notified && wait != nil {
				wait(holder(file))
			}
			notified = true
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("harness lock %s: %w", path, err)
	}
	if err := file.Truncate(0); err == nil {
		fmt.Fprintf(file, "process %d: %s\n", os.Getpid(), strings.Join(os.Args, " "))
	}
	return func() {
		file.Truncate(0)
		file.Close()
	}, nil
}

// holder returns the line that the process with the lock wrote.
func holder(file *os.File) string {
	text, _ := io.ReadAll(io.NewSectionReader(file, 0, 300))
	line, _, _ := strings.Cut(string(text), "\n")
	if line == "" {
		return "another process"
	}
	return line
}
