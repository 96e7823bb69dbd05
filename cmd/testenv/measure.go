package main

import (
	"context"
	"flag"
	"os"
	"slices"

	"rcpt-milter/testenv"
)

// measure makes changes in AD one after the other and prints the seconds from the directory's
// answer to the new reply of the edge: median and worst. It makes each change as soon as the edge
// knows the previous one, right after a pass, when the next pass is farthest away.
func measure(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	changes := flags.Int("n", 50, "number of changes")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *changes < 1 {
		return errUsage
	}
	t := newTerminal(os.Stdout)
	return withHarness(ctx, t, false, func(_ *testenv.Setup, h *testenv.Harness) error {
		domain, err := h.Administrator(ctx)
		if err != nil {
			return err
		}
		defer domain.Close()
		if _, err := h.AwaitCaughtUp(ctx, domain); err != nil {
			return err
		}
		took, err := h.MeasureChanges(ctx, domain, *changes)
		if err != nil {
			return err
		}
		slices.Sort(took)
		t.say("%d changes, seconds until the edge's new answer: median %.2f, worst %.2f, best %.2f", len(took),
			took[len(took)/2].Seconds(), took[len(took)-1].Seconds(), took[0].Seconds())
		return nil
	})
}
