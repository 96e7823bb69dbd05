package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"rcpt-milter/internal/text"
)

// maxOutput limits the bytes of the output of a command that an error shows: its end.
const maxOutput = 400

// commandWait is how long the output of a command may stay open after the command ended.
const commandWait = 2 * time.Second

// commandEnvironment is the environment of a command. The environment of the daemon may name sockets of systemd
// and directories of secrets.
var commandEnvironment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}

// runCommand runs a command without a shell, and ends it and its children after the limit. The
// error has the end of its output.
func runCommand(ctx context.Context, words []string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	program, err := findProgram(words[0])
	if err != nil {
		return fmt.Errorf("export.command: %w", err)
	}
	var output tail
	command := exec.CommandContext(ctx, program, words[1:]...)
	command.Env, command.Dir = commandEnvironment, "/"
	command.Stdout, command.Stderr = &output, &output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = commandWait
	err = command.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("timed out after %s; raise export.timeout", text.Duration(limit))
	}
	if err == nil {
		return nil
	}
	said := ""
	if output.text != "" {
		said = ": " + text.Printable(strings.TrimSpace(output.text))
	}
	return fmt.Errorf("export.command: %s: %w%s", words[0], err, said)
}

// findProgram returns the path of a program: an absolute one, or a name in the search path of
// commands.
func findProgram(name string) (string, error) {
	if strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	search, _ := strings.CutPrefix(commandEnvironment[0], "PATH=")
	for dir := range strings.SplitSeq(search, ":") {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program %q in %s; install it or use its path", name, search)
}

// tail keeps the end of what is written.
type tail struct{ text string }

func (t *tail) Write(p []byte) (int, error) {
	t.text += string(p[max(0, len(p)-maxOutput):])
	t.text = t.text[max(0, len(t.text)-maxOutput):]
	return len(p), nil
}
