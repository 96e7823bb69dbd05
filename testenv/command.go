package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Output is the output of a command and its exit status.
type Output struct {
	Stdout, Stderr string
	Status         int
}

// run runs a command to its end. A non-zero status is not an error here; a failed start or the
// end of the context is. The command gets its own process group: Ctrl-C at the terminal must
// reach only this process, which then takes the harness down with commands that must not be
// interrupted.
func run(ctx context.Context, cmd *exec.Cmd) (Output, error) {
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	result := Output{Stdout: out.String(), Stderr: errs.String(), Status: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return result, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), context.Cause(ctx))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return result, nil
}

// mustRun is run for commands whose failure is an error. The error ends with the command's last
// output lines.
func mustRun(ctx context.Context, cmd *exec.Cmd) (string, error) {
	out, err := run(ctx, cmd)
	if err != nil {
		return "", err
	}
	if out.Status != 0 {
		return "", fmt.Errorf("%s: exit status %d: %s", strings.Join(cmd.Args, " "), out.Status,
			lastLines(out.Stderr+out.Stdout, 5))
	}
	return out.Stdout, nil
}

// lastLines returns the last n lines of a text, for error messages.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// withOutput sends both output streams of a command to w.
func withOutput(w io.Writer, cmd *exec.Cmd) *exec.Cmd {
	cmd.Stdout, cmd.Stderr = w, w
	return cmd
}
