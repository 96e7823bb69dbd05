package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// edgeDeadline limits the wait of the demo for one change to reach the edge.
const edgeDeadline = 60 * time.Second

// demo shows on the terminal what the daemon does, with the real parts.
func demo(ctx context.Context, args []string) error {
	on, err := switches(args, "install", "keep", "fleet")
	if err != nil {
		return err
	}
	t := newTerminal(os.Stdout)
	if on["install"] {
		if err := install(ctx, t); err != nil {
			return err
		}
	}
	err = withHarness(ctx, t, on["keep"], func(_ *testenv.Setup, h *testenv.Harness) error {
		story := &storyteller{h: h, out: t}
		if on["fleet"] {
			return runFleetStory(ctx, story)
		}
		return runStory(ctx, story)
	})
	if err == nil {
		t.say("the demo has ended")
	}
	return err
}

// storyteller runs the demo: it performs actions and prints them with the answers.
type storyteller struct {
	h       *testenv.Harness
	domain  *testenv.Domain // nil while dc1 is stopped
	out     *terminal
	chapter int
	delays  []time.Duration
}

// title begins a chapter.
func (s *storyteller) title(text string) {
	s.chapter++
	fmt.Fprintf(s.out.out, "\n%s == %d. %s\n", s.out.elapsed(), s.chapter, text)
}

// line prints one line.
func (s *storyteller) line(format string, args ...any) {
	fmt.Fprintf(s.out.out, "           %s\n", fmt.Sprintf(format, args...))
}

// block prints a text of several lines.
func (s *storyteller) block(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		s.line("  %s", strings.TrimRight(line, "\n"))
	}
}

// connect opens the connection on which the demo changes AD.
func (s *storyteller) connect(ctx context.Context) (err error) {
	s.domain, err = s.h.Administrator(ctx)
	return err
}

// expectReply queries the edge once and checks the code of its reply.
func (s *storyteller) expectReply(ctx context.Context, recipient string, code int) error {
	reply, err := s.h.Ask(ctx, recipient)
	if err != nil {
		return err
	}
	s.dialogue(recipient, reply)
	if reply.Code() != code {
		return fmt.Errorf("edge replied %q to %s, want %d", reply, recipient, code)
	}
	return nil
}

// expectChange makes a change in AD and measures the time until the edge replies with this code.
func (s *storyteller) expectChange(
	ctx context.Context, what string, change func() error, recipient string, code int,
) error {
	s.line("AD: %s", what)
	ctx, cancel := context.WithTimeout(ctx, edgeDeadline)
	defer cancel()
	if err := change(); err != nil {
		return err
	}
	reply, took, err := s.h.AwaitReply(ctx, recipient, code)
	if err != nil {
		return err
	}
	s.dialogue(recipient, reply)
	s.line("the edge replied so after %.2f s", took.Seconds())
	s.delays = append(s.delays, took)
	return nil
}

func (s *storyteller) dialogue(recipient string, reply testenv.Reply) {
	s.line("  C: RCPT TO:<%s>", recipient)
	s.line("  S: %s", reply)
}
