package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// baseImage is the base of every Dockerfile of the harness.
const (
	baseImage = "debian:bookworm-slim"
	baseSuite = "bookworm"
)

// The time limits for the first output of a pull, and for the whole pull.
const (
	pullFirstWord = 20 * time.Second
	pullDeadline  = 5 * time.Minute
)

// buildBase ensures that the base image exists: it pulls it, or builds it from the machine's own
// Debian archive.
func (s *Setup) buildBase(ctx context.Context, log io.Writer) error {
	if s.engine.hasImage(ctx, baseImage) {
		return nil
	}
	var pullErr error
	s.progress.run("pulling base image "+baseImage, func() error {
		pullErr = s.pullBase(ctx, log)
		return nil // a failed pull is not a failure yet
	})
	if pullErr == nil || ctx.Err() != nil {
		return pullErr
	}
	if err := canBootstrap(); err != nil {
		return fmt.Errorf("base image %s: cannot be pulled (%w) and cannot be built here: %w", baseImage, pullErr, err)
	}
	return s.progress.run("pull failed: building base image "+baseImage+" with debootstrap (about a minute)",
		func() error {
			return s.bootstrapBase(ctx, log)
		})
}

// pullBase pulls the base image, and gives up early if the registry does not answer.
func (s *Setup) pullBase(ctx context.Context, log io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, pullDeadline)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	silence := time.AfterFunc(pullFirstWord, func() { giveUp(errors.New("the registry does not answer")) })
	defer silence.Stop()
	heard := &firstWriter{to: log, onWrite: sync.OnceFunc(func() { silence.Stop() })}
	out, err := run(ctx, withOutput(heard, exec.CommandContext(ctx, "docker", "pull", baseImage)))
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("docker pull ended with status %d", out.Status)
	}
	return err
}

// firstWriter is a writer that calls onWrite before each write.
type firstWriter struct {
	to      io.Writer
	onWrite func()
}

func (w *firstWriter) Write(p []byte) (int, error) {
	w.onWrite()
	return w.to.Write(p)
}

// canBootstrap returns an error if this machine cannot build a Debian image.
func canBootstrap() error {
	if os.Geteuid() != 0 {
		return errors.New("debootstrap needs root: run once as root, or load the image with `docker load`")
	}
	if _, err := hostRelease(); err != nil {
		return err
	}
	return nil
}

// bootstrapBase builds the base image from the archive in this machine's apt configuration.
func (s *Setup) bootstrapBase(ctx context.Context, log io.Writer) error {
	if err := needDebootstrap(ctx, log); err != nil {
		return err
	}
	mirror, err := aptMirror(ctx)
	if err != nil {
		return err
	}
	// Not below the checkout or /tmp: both may be mounted without devices.
	dir, err := os.MkdirTemp("/var/tmp", "rcpt-milter-base-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", baseSuite, dir, mirror)
	cmd.Env = append(os.Environ(), aptProxies(aptSettings(ctx))...)
	if out, err := run(ctx, withOutput(log, cmd)); err != nil || out.Status != 0 {
		return errors.Join(err, fmt.Errorf("debootstrap of %s from %s ended with status %d", baseSuite, mirror,
			out.Status))
	}
	os.Remove(filepath.Join(dir, "etc", "resolv.conf"))
	os.Remove(filepath.Join(dir, "etc", "hostname"))
	return s.importBase(ctx, log, dir)
}

// importBase runs `tar | docker import`, without the files that apt downloaded.
func (s *Setup) importBase(ctx context.Context, log io.Writer, dir string) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	tar := exec.CommandContext(ctx, "tar", "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*",
		"--exclude=./dev/*", "-C", dir, "-c", ".")
	tar.Stdout, tar.Stderr = write, log
	imports := exec.CommandContext(ctx, "docker", "import", "--change", "CMD [\"bash\"]", "--change",
		"LABEL "+imageLabel+"=base", "-", baseImage)
	imports.Stdin, imports.Stdout, imports.Stderr = read, log, log
	packed := make(chan error, 1)
	go func() {
		out, err := run(ctx, tar)
		write.Close()
		if err == nil && out.Status != 0 {
			err = fmt.Errorf("tar ended with status %d", out.Status)
		}
		packed <- err
	}()
	out, err := run(ctx, imports)
	read.Close()
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("docker import ended with status %d", out.Status)
	}
	return errors.Join(err, <-packed)
}

// needDebootstrap installs debootstrap if it is missing.
func needDebootstrap(ctx context.Context, log io.Writer) error {
	if _, err := exec.LookPath("debootstrap"); err == nil {
		return nil
	}
	return AptInstall(ctx, log, "debootstrap")
}
