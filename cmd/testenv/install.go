package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"rcpt-milter/testenv"
)

// engineStart limits the wait for a newly started engine to answer.
const engineStart = 30 * time.Second

// install ensures that there are a container engine and a compose command. It installs Debian's
// packages if they are missing, and starts the engine if it does not answer.
func install(ctx context.Context, t *terminal) error {
	_, err := testenv.Open(ctx, nil)
	if !errors.Is(err, testenv.ErrNoEngine) {
		return err
	}
	if os.Geteuid() != 0 || !isFile("/etc/debian_version") {
		return fmt.Errorf("--install needs root on a Debian system; otherwise install Docker and Compose yourself: "+
			"%w", err)
	}
	log, err := os.Create(filepath.Join(os.TempDir(), "rcpt-milter-install.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := installPackages(ctx, t, log); err != nil {
		return fmt.Errorf("%w; see %s", err, log.Name())
	}
	end := t.step("starting dockerd")
	err = startEngine(ctx, log)
	end(err)
	if err != nil {
		return fmt.Errorf("%w; see %s", err, log.Name())
	}
	return nil
}

// installOnly runs install alone.
func installOnly(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errUsage
	}
	return install(ctx, newTerminal(os.Stdout))
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// installPackages installs the engine and compose if they are missing.
func installPackages(ctx context.Context, t *terminal, log io.Writer) (err error) {
	var missing []string
	if _, err := exec.LookPath("dockerd"); err != nil {
		missing = append(missing, "docker.io")
	} else if _, err := exec.LookPath("docker"); err != nil {
		missing = append(missing, "docker.io")
	}
	_, plugin := exec.LookPath("docker-compose")
	if plugin != nil && exec.CommandContext(ctx, "docker", "compose", "version").Run() != nil {
		missing = append(missing, "docker-compose")
	}
	if len(missing) == 0 {
		return nil
	}
	end := t.step(fmt.Sprintf("installing %v by apt-get", missing))
	defer func() { end(err) }()
	return testenv.AptInstall(ctx, log, missing...)
}

// startEngine starts dockerd with the system's service manager. If there is none (a container, a
// minimal machine), it starts dockerd as its own process that outlives this one.
func startEngine(ctx context.Context, log *os.File) error {
	for _, start := range [][]string{{"systemctl", "start", "docker"}, {"service", "docker", "start"}} {
		cmd := exec.CommandContext(ctx, start[0], start[1:]...)
		cmd.Stdout, cmd.Stderr = log, log
		if cmd.Run() == nil && awaitEngine(ctx) == nil {
			return nil
		}
	}
	cmd := exec.Command("dockerd")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("dockerd: %w", err)
	}
	if err := awaitEngine(ctx); err != nil {
		cmd.Process.Kill()
		return err
	}
	return cmd.Process.Release()
}

// awaitEngine waits until the engine answers.
func awaitEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineStart)
	defer cancel()
	return testenv.AwaitNil(ctx, 500*time.Millisecond, func(ctx context.Context) error {
		_, err := testenv.Open(ctx, nil)
		return err
	})
}
