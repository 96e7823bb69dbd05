package testenv

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// logPoll is how often a log is read while somebody waits for a line in it.
const logPoll = 200 * time.Millisecond

// Mark is a place in a service's log: everything before it has been written.
type Mark struct {
	service string
	bytes   int
}

// MarkLog notes how far a service's log has come.
func (h *Harness) MarkLog(ctx context.Context, service string) (Mark, error) {
	text, err := h.log(ctx, service)
	return Mark{service: service, bytes: len(text)}, err
}

// LogSince is what a service has logged since a mark. For mx that is the Postfix log.
// The log lives as long as the container, over restarts too.
func (h *Harness) LogSince(ctx context.Context, mark Mark) (string, error) {
	text, err := h.log(ctx, mark.service)
	if err != nil {
		return "", err
	}
	return text[min(mark.bytes, len(text)):], nil
}

// AwaitLog waits for a line that matches a regular expression to appear after a
// mark, and returns it.
func (h *Harness) AwaitLog(ctx context.Context, mark Mark, pattern string) (string, error) {
	wanted, err := regexp.Compile("(?m)^.*(?:" + pattern + ").*$")
	if err != nil {
		return "", fmt.Errorf("log pattern: %w", err)
	}
	var line string
	err = AwaitNil(ctx, logPoll, func(ctx context.Context) error {
		text, err := h.LogSince(ctx, mark)
		if err != nil {
			return err
		}
		if line = wanted.FindString(text); line == "" {
			return fmt.Errorf("log of %s has no line with %q; it ends:\n%s", mark.service, pattern, lastLines(text, 10))
		}
		return nil
	})
	return line, err
}

// log is everything a service has logged on one stream or the other; a service of
// the harness uses one of them.
func (h *Harness) log(ctx context.Context, service string) (string, error) {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return "", err
	}
	out, err := run(ctx, exec.CommandContext(ctx, "docker", "logs", id))
	if err != nil {
		return "", err
	}
	if out.Status != 0 {
		return "", fmt.Errorf("docker logs of %s: exit status %d: %s", service, out.Status, strings.TrimSpace(out.Stderr))
	}
	return out.Stdout + out.Stderr, nil
}
