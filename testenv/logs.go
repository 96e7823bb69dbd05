package testenv

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// logPoll is the interval between reads of a log while a test waits for a line.
const logPoll = 200 * time.Millisecond

// Mark is a position in a service's log.
type Mark struct {
	service string
	bytes   int
}

// MarkLog returns the current end of a service's log.
func (h *Harness) MarkLog(ctx context.Context, service string) (Mark, error) {
	text, err := h.log(ctx, service)
	return Mark{service: service, bytes: len(text)}, err
}

// LogSince returns a service's log since a mark. For mx that is the Postfix log. The log lives as
// long as the container, across restarts.
func (h *Harness) LogSince(ctx context.Context, mark Mark) (string, error) {
	text, err := h.log(ctx, mark.service)
	if err != nil {
		return "", err
	}
	return text[min(mark.bytes, len(text)):], nil
}

// AwaitLog waits for a line after a mark that matches a regular expression, and returns it.
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

// LogTail returns the last lines of a service's log.
func (h *Harness) LogTail(ctx context.Context, service string) (string, error) {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return "", err
	}
	return h.logTail(ctx, id), nil
}

// log returns a service's whole log on both streams; a service of the harness uses one of them.
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
		return "", fmt.Errorf("docker logs of %s: exit status %d: %s", service, out.Status,
			strings.TrimSpace(out.Stderr))
	}
	return out.Stdout + out.Stderr, nil
}
