package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
)

// The environment variables that decide how tests get a harness.
const (
	// EnvMode is TESTENV. With "require", a test fails instead of being skipped if there is no
	// engine or no images; with "off", it is always skipped.
	EnvMode = "TESTENV"
	// EnvKept is TESTENV_HARNESS. "kept" means that the parent process (cmd/testenv test) runs
	// the harness and will take it down.
	EnvKept = "TESTENV_HARNESS"
)

// errOff is the reason for skipping tests with TESTENV=off.
var errOff = errors.New("TESTENV=off")

// Shared is the harness of one test binary: the first test that needs it starts it, and it is
// taken down after the last test. The zero value is ready to use. A test package has
//
//	var shared testenv.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }
type Shared struct {
	interrupted context.Context // ends at Ctrl-C; nil outside Main

	mu       sync.Mutex // guards the fields below
	started  bool
	harness  *Harness
	err      error
	cleanups []func() error
}

// Main runs the tests of a package and takes down the harness, also if the process is
// interrupted. It returns the exit status.
func (s *Shared) Main(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s.interrupted = ctx
	ended := make(chan int, 1)
	go func() { ended <- m.Run() }()
	status := 130
	select {
	case status = <-ended:
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "testenv: interrupted, taking the harness down")
	}
	if err := s.close(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		status = max(status, 1)
	}
	return status
}

// close runs all cleanups, the last first. It waits for a start in progress.
func (s *Shared) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		errs = append(errs, s.cleanups[i]())
	}
	s.cleanups, s.harness, s.started, s.err = nil, nil, true, errors.New("the harness was taken down")
	return errors.Join(errs...)
}

// Require returns the harness, reset and with a fresh index (see Settle). Without an engine or
// images it skips the test and names the command to run; with TESTENV=require that is a failure.
// Tests that use it must not run in parallel.
func (s *Shared) Require(t testing.TB) *Harness {
	t.Helper()
	harness, err := s.start(t.Context())
	switch {
	case err == nil:
	case errors.Is(err, errOff), !required() && (errors.Is(err, ErrNoEngine) || errors.Is(err, ErrNoImages)):
		t.Skipf("END-TO-END TEST SKIPPED: %v; run `go run ./cmd/testenv test`", err)
	default:
		t.Fatalf("no harness: %v", err)
	}
	if err := harness.Settle(t.Context()); err != nil {
		t.Fatalf("cannot reset the harness: %v", err)
	}
	return harness
}

func required() bool { return os.Getenv(EnvMode) == "require" }

// start starts a harness once per process; later calls get the same result.
func (s *Shared) start(ctx context.Context) (*Harness, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.started = true
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if s.interrupted != nil {
			defer context.AfterFunc(s.interrupted, cancel)()
		}
		s.harness, s.err = s.open(ctx)
	}
	return s.harness, s.err
}

// open attaches to a kept harness or starts one.
func (s *Shared) open(ctx context.Context) (*Harness, error) {
	if os.Getenv(EnvMode) == "off" {
		return nil, errOff
	}
	setup, err := Open(ctx, nil)
	if err != nil {
		return nil, err
	}
	if os.Getenv(EnvKept) == "kept" {
		if err := s.takeLock(ctx, setup, turnLock); err != nil {
			return nil, err
		}
		return setup.Attach(ctx)
	}
	if err := setup.Built(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{ownerLock, turnLock} {
		if err := s.takeLock(ctx, setup, name); err != nil {
			return nil, err
		}
	}
	if setup.Kept() {
		if harness, err := setup.Attach(ctx); err == nil {
			return harness, setup.Refresh(ctx)
		}
	}
	s.cleanups = append(s.cleanups, func() error { return setup.Down(context.Background()) })
	return setup.Up(ctx)
}

// takeLock takes a lock until the tests of the process end.
func (s *Shared) takeLock(ctx context.Context, setup *Setup, name string) error {
	release, err := setup.home.lock(ctx, name, func(holder string) {
		fmt.Fprintf(os.Stderr, "testenv: waiting for the harness, which is in use by %s\n", holder)
	})
	if err != nil {
		return err
	}
	s.cleanups = append(s.cleanups, func() error { release(); return nil })
	return nil
}
