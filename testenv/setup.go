package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The services of docker-compose.yml.
const (
	DC     = "dc1"
	DC2    = "dc2" // optional, see StartSecond
	MX     = "mx"
	Sink   = "sink"
	Milter = "rcpt-milter"

	// Only Join starts these. The image of Sendmail also contains miltertest.
	Sendmail   = "sendmail"
	Prometheus = "prometheus" // with promtool
	Systemd    = "systemd"    // Debian with systemd and Postfix, to install the package on
	Bench      = "bench"      // Postfix with tables, and milters in C; testenv/bench runs it without Compose
	Successor  = "successor"  // a second daemon with the store and the sockets of the first
	Hub        = "hub"        // the hub of a fleet, with its engine; see StartFleet
)

// The ports of mx.
const (
	PortSMTP       = 25
	PortSubmission = 587  // for authenticated clients; no milter
	PortChroot     = 2525 // as 25, but smtpd runs in its chroot and finds its milter only there
	PortSpare      = 2601 // the first of four ports without a service, for tests that add one
)

// ErrNotRunning means that there is no complete harness.
var ErrNotRunning = errors.New("the harness is not running")

// keptMark is the file that marks a harness that stays up.
const keptMark = "kept"

// The time limits for taking the containers of the harness up and down.
const (
	upDeadline   = 15 * time.Minute // a busy machine needs several for dc1
	downDeadline = 2 * time.Minute
)

// Setup is a checkout together with the container engine of this machine. It builds images and
// takes a harness up and down.
type Setup struct {
	home     checkout
	engine   *engine
	images   []image
	progress Progress
}

// Open finds the checkout around the current directory and the engine. The error wraps
// ErrNoCheckout or ErrNoEngine.
func Open(ctx context.Context, progress Progress) (*Setup, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	home, err := findCheckout(dir)
	if err != nil {
		return nil, err
	}
	engine, err := findEngine(ctx, home)
	if err != nil {
		return nil, err
	}
	images, err := findImages(home)
	if err != nil {
		return nil, err
	}
	for _, image := range images {
		engine.env = append(engine.env, image.variable())
	}
	return &Setup{home: home, engine: engine, images: images, progress: progress}, nil
}

// Root returns the checkout's directory.
func (s *Setup) Root() string { return string(s.home) }

// Own takes the owner lock: until release, no other process starts or stops a harness of this
// checkout. While another process holds the lock, Own calls wait, if not nil, with that process.
func (s *Setup) Own(ctx context.Context, wait func(holder string)) (release func(), err error) {
	return s.home.lock(ctx, ownerLock, wait)
}

// Up removes the remains of an earlier run, starts a new harness with an empty store and waits
// until every part is healthy. The images must exist, and the caller must own the harness. If Up
// fails, it leaves nothing behind.
func (s *Setup) Up(ctx context.Context) (*Harness, error) {
	// A slow machine takes minutes to compile everything for the first time. That is no trouble of the harness.
	if err := s.buildDaemon(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upDeadline)
	defer cancel()
	// Without Down, a recreated dc1 would leave the others with the address and the CA of the
	// old one.
	if err := s.Down(ctx); err != nil {
		return nil, err
	}
	h := s.harness()
	err := s.progress.run("starting dc1, mx, sink and rcpt-milter", func() error {
		if _, err := mustRun(ctx, s.engine.composeCommand(ctx, "up", "--detach", "--no-build", DC, Sink, MX,
			Milter)); err != nil {
			return fmt.Errorf("%w\n%s", err, h.unhealthy(ctx))
		}
		return h.AwaitHealthy(ctx, DC, Sink, MX, Milter)
	})
	if err != nil {
		return nil, errors.Join(err, s.Down(context.WithoutCancel(ctx)))
	}
	return h, nil
}

// Attach returns the running harness. The error wraps ErrNotRunning.
func (s *Setup) Attach(ctx context.Context) (*Harness, error) {
	h := s.harness()
	for _, service := range []string{DC, Sink, MX, Milter} {
		if _, err := s.engine.container(ctx, service); err != nil {
			return nil, fmt.Errorf("%w: %v; take it down with `go run ./cmd/testenv down` and start again",
				ErrNotRunning, err)
		}
	}
	return h, nil
}

// Refresh installs the current daemon of the checkout in a harness that was left running, and
// keeps its store.
func (s *Setup) Refresh(ctx context.Context) error {
	if err := s.buildDaemon(ctx); err != nil {
		return err
	}
	// An interrupted test may have left the successor, which holds the store.
	if err := s.harness().Leave(ctx, Successor); err != nil {
		return err
	}
	if _, err := mustRun(ctx, s.engine.composeCommand(ctx, "up", "--detach", "--no-build", "--no-deps",
		Milter)); err != nil {
		return err
	}
	return s.harness().AwaitHealthy(ctx, Milter)
}

func (s *Setup) harness() *Harness {
	return &Harness{engine: s.engine, images: s.images, configPath: s.home.path("testenv", "images", "rcpt-milter",
		"config.yaml")}
}

// Keep marks the harness to stay up for later test runs, until Down.
func (s *Setup) Keep() error {
	path, err := s.home.statePath(keptMark)
	if err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}

// Kept reports whether a harness was left up for later test runs.
func (s *Setup) Kept() bool {
	return exists(s.home.path(".testenv", keptMark))
}

// Down removes the harness's containers, networks and volumes, even after an incomplete start.
func (s *Setup) Down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downDeadline)
	defer cancel()
	return s.progress.run("removing containers, networks and volumes", func() error {
		os.Remove(s.home.path(".testenv", keptMark))
		// A paused container cannot be stopped.
		if ids, err := s.engine.docker(ctx, "ps", "--quiet", "--filter", "status=paused",
			"--filter", "label=com.docker.compose.project="+s.engine.project); err == nil {
			for _, id := range strings.Fields(ids) {
				s.engine.docker(ctx, "unpause", id)
			}
		}
		_, err := mustRun(ctx, s.engine.composeCommand(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "1"))
		return err
	})
}

// Clean takes the harness down and removes the images, including a base image that was built
// here.
func (s *Setup) Clean(ctx context.Context) error {
	if err := s.Down(ctx); err != nil {
		return err
	}
	err := s.progress.run("removing images", func() error { return s.removeImages(ctx) })
	return errors.Join(err, os.RemoveAll(filepath.Join(string(s.home), ".testenv", "rcpt-milter")))
}
