package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// edgeDeadline is how long the demo waits for the edge to know of one change.
const edgeDeadline = 60 * time.Second

// demo tells on the terminal what the daemon does, with the real parts.
func demo(ctx context.Context, args []string) error {
	on, err := switches(args, "install", "keep")
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
		return runStory(ctx, &storyteller{h: h, out: t})
	})
	if err == nil {
		t.say("the demo is over")
	}
	return err
}

// storyteller tells the story: it does something and shows what was done and answered.
type storyteller struct {
	h       *testenv.Harness
	domain  *testenv.Domain // nil while dc1 is stopped
	out     *terminal
	chapter int
	delays  []time.Duration
}

// title opens a chapter.
func (s *storyteller) title(text string) {
	s.chapter++
	fmt.Fprintf(s.out.out, "\n%s == %d. %s\n", s.out.elapsed(), s.chapter, text)
}

// line shows one thing.
func (s *storyteller) line(format string, args ...any) {
	fmt.Fprintf(s.out.out, "           %s\n", fmt.Sprintf(format, args...))
}

// block shows a text of several lines.
func (s *storyteller) block(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		s.line("  %s", strings.TrimRight(line, "\n"))
	}
}

// connect makes the connection on which the story changes AD.
func (s *storyteller) connect(ctx context.Context) (err error) {
	s.domain, err = s.h.Administrator(ctx)
	return err
}

// expectReply asks the edge once and checks that it answers with this code.
func (s *storyteller) expectReply(ctx context.Context, recipient string, code int) error {
	reply, err := s.h.Ask(ctx, recipient)
	if err != nil {
		return err
	}
	s.dialogue(recipient, reply)
	if reply.Code() != code {
		return fmt.Errorf("the edge says %q to %s, want %d", reply, recipient, code)
	}
	return nil
}

// expectChange makes a change in AD and measures how long it takes until the edge answers
// with this code.
func (s *storyteller) expectChange(ctx context.Context, what string, change func() error, recipient string, code int) error {
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
	s.line("the edge knew after %.2f s", took.Seconds())
	s.delays = append(s.delays, took)
	return nil
}

func (s *storyteller) dialogue(recipient string, reply testenv.Reply) {
	s.line("  C: RCPT TO:<%s>", recipient)
	s.line("  S: %s", reply)
}
