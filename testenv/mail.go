package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
)

// Arrived waits until a message with this Subject has arrived at the sink for each recipient. It
// returns all recipients that it has arrived for, sorted. By then the queue of mx is empty, so no
// further copy can arrive.
func (h *Harness) Arrived(ctx context.Context, subject string, recipients ...string) ([]string, error) {
	var got []string
	err := AwaitNil(ctx, logPoll, func(ctx context.Context) error {
		var err error
		if got, err = h.deliveries(ctx, subject); err != nil {
			return err
		}
		for _, want := range recipients {
			if !slices.Contains(got, want) {
				return fmt.Errorf("message %q has not arrived for %s, only for %v", subject, want, got)
			}
		}
		return nil
	})
	if err != nil {
		return got, err
	}
	err = AwaitNil(ctx, logPoll, func(ctx context.Context) error {
		out, err := h.Exec(ctx, MX, "postqueue", "-j")
		if err == nil && strings.TrimSpace(out.Stdout) != "" {
			err = errors.New("mx still has queued mail: " + lastLines(out.Stdout, 3))
		}
		return err
	})
	if err != nil {
		return got, err
	}
	return h.deliveries(ctx, subject)
}

// deliveries returns the recipients that a message has arrived for, as in the sink's Delivered-To
// headers.
func (h *Harness) deliveries(ctx context.Context, subject string) ([]string, error) {
	const separator = "=-=-= next message =-=-="
	// One process for all messages: after the tests with load there are hundreds.
	out, err := h.ExecInput(ctx, Sink, "", "find", "/var/mail/inbox/new", "-type", "f", "-exec", "awk",
		`FNR == 1 { print "`+separator+`" } { print }`, "{}", "+")
	if err != nil || out.Status != 0 && !strings.Contains(out.Stderr, "No such file") {
		return nil, errors.Join(err, fmt.Errorf("sink: exit status %d: %s", out.Status, out.Stderr))
	}
	var recipients []string
	for text := range strings.SplitSeq(out.Stdout, separator+"\n") {
		message, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil || message.Header.Get("Subject") != subject {
			continue
		}
		recipients = append(recipients, message.Header.Get("Delivered-To"))
	}
	slices.Sort(recipients)
	return recipients, nil
}
