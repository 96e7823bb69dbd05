package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// emulators run the programs of another architecture (Debian's qemu-user-static or qemu-user).
var emulators = map[string][]string{
	"arm64": {"qemu-aarch64-static", "qemu-aarch64"},
	"amd64": {"qemu-x86_64-static", "qemu-x86_64"},
}

// tryTimeout limits the trial of one binary. An emulator is slow.
const tryTimeout = 3 * time.Minute

// tryConfig is a configuration whose domain controller does not answer.
const tryConfig = `listen: unix:DIR/milter.sock
socket: {group: ""}
control: unix:DIR/control.sock
metrics: ""
page: {listen: ""}
store: {dir: DIR/store, min_free: 1MiB}
domains: {corp.example: enforce}
directories:
  - name: corp
    urls: ["ldaps://127.0.0.1:1"]
    bind: {dn: svc-mail@corp.example, password_file: DIR/password}
`

// trial is one binary that is tried.
type trial struct {
	command []string // the binary, after its emulator if it needs one
	config  string
}

// try runs a binary as a daemon that has no index yet: it must defer a recipient, and end on SIGTERM.
// On a machine that cannot run the binary, try says so.
func try(ctx context.Context, binary, arch, version string) error {
	command := emulated(binary, arch)
	if command == nil {
		fmt.Printf("binary for %s: not run; install qemu-user-static to run it here\n", arch)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "rcpt-milter-try-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := &trial{command: command, config: filepath.Join(dir, "config.yaml")}
	text := strings.ReplaceAll(tryConfig, "DIR", dir)
	if err := errors.Join(os.WriteFile(t.config, []byte(text), 0o600),
		os.WriteFile(filepath.Join(dir, "password"), []byte("secret\n"), 0o600)); err != nil {
		return err
	}
	out, status := t.run(ctx, "version")
	if status != 0 || !strings.HasPrefix(out, "rcpt-milter "+version+" ") {
		return fmt.Errorf("version: exit status %d, %s", status, out)
	}
	if err := t.serve(ctx); err != nil {
		return err
	}
	fmt.Printf("binary for %s: ran by %s: %s\n", arch, by(command), strings.TrimSpace(out))
	return nil
}

// by names what runs a command: this machine, or an emulator.
func by(command []string) string {
	if len(command) == 1 {
		return "this machine"
	}
	return filepath.Base(command[0])
}

// emulated returns the command that runs a binary here, or nil.
func emulated(binary, arch string) []string {
	if arch == runtime.GOARCH {
		return []string{binary}
	}
	for _, name := range emulators[arch] {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path, binary}
		}
	}
	return nil
}

// serve starts the daemon, waits until it answers, asks for a recipient, and stops it.
func (t *trial) serve(ctx context.Context) error {
	daemon := t.start(ctx, "serve")
	var said strings.Builder
	daemon.Stdout, daemon.Stderr = &said, &said
	daemon.Cancel = func() error { return daemon.Process.Signal(syscall.SIGTERM) }
	if err := daemon.Start(); err != nil {
		return err
	}
	err := t.ask(ctx)
	if signalErr := daemon.Process.Signal(syscall.SIGTERM); signalErr != nil {
		err = errors.Join(err, signalErr)
	}
	if waitErr := daemon.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("serve: %w", waitErr))
	}
	if err != nil {
		return fmt.Errorf("%w; its log:\n%s", err, said.String())
	}
	return nil
}

// ask waits for the daemon and looks a recipient up.
func (t *trial) ask(ctx context.Context) error {
	const notReachable, temporary = 3, 2
	for {
		_, status := t.run(ctx, "status")
		if status == temporary { // it answers, and has no index
			break
		}
		if status != notReachable {
			return fmt.Errorf("status: exit status %d, want %d", status, temporary)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
	if out, status := t.run(ctx, "lookup", "ann@corp.example"); status != temporary || !strings.Contains(out, "451") {
		return fmt.Errorf("lookup: exit status %d, %s", status, out)
	}
	return nil
}

func (t *trial) start(ctx context.Context, args ...string) *exec.Cmd {
	args = append(append(t.command[1:len(t.command):len(t.command)], args...), "--config", t.config)
	return exec.CommandContext(ctx, t.command[0], args...)
}

// run runs a command of the binary and returns its output and its exit status.
func (t *trial) run(ctx context.Context, args ...string) (string, int) {
	out, err := t.start(ctx, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return string(out), exit.ExitCode()
	case err != nil:
		return err.Error(), -1
	}
	return string(out), 0
}
