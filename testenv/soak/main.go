// Command soak runs the real parts for a long time while everything goes wrong: two Samba domain
// controllers that change all the time, Postfix with honest and hostile clients, and the daemon, in
// containers. Faults hit all of them. It prints a summary every minute and at the end: the faults, the
// RCPTs, the recovery times and each wrong answer with what reproduces it.
//
//	go run ./testenv/soak -duration 1h -seed 1
//
// It needs Docker; missing images are built. The exit status is 1 if an answer was wrong, a part did
// not recover, or the index was not equal to the models at a quiet point. See docs/testing.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"rcpt-milter/testenv"
	"rcpt-milter/testenv/soak/real"
)

func parseOptions(args []string) (real.Options, error) {
	o := real.Defaults()
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.DurationVar(&o.Duration, "duration", o.Duration, "how long faults are injected")
	flags.Uint64Var(&o.Seed, "seed", o.Seed, "decides operations, faults and questions")
	flags.Float64Var(&o.Rate, "rate", o.Rate, "RCPTs a second of all clients")
	flags.Float64Var(&o.Changes, "changes", o.Changes, "operations a second at each domain controller")
	flags.IntVar(&o.Honest, "honest", o.Honest, "sessions of honest clients")
	flags.IntVar(&o.Hostile, "hostile", o.Hostile, "sessions of clients that guess addresses")
	flags.DurationVar(&o.Hold, "hold", o.Hold, "the longest fault")
	flags.DurationVar(&o.Lag, "lag", o.Lag, "replication_lag of the daemon; at least four times -hold")
	flags.DurationVar(&o.Quiet, "quiet", o.Quiet, "time between two quiet points")
	flags.DurationVar(&o.Report, "report", o.Report, "time between two summaries")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.Duration <= 0 || o.Rate <= 0 || o.Changes <= 0 || o.Honest < 1 || o.Hostile < 1 ||
		o.Hold < time.Second || o.Lag < 4*o.Hold || o.Quiet <= 0 || o.Report <= 0 {
		return o, errors.New("soak takes no arguments; all values must be positive, and -lag at least four times -hold")
	}
	o.Out = os.Stdout
	return o, nil
}

// The exit statuses besides 0. exitUsage is EX_USAGE of sysexits(3).
const (
	exitFailed = 1
	exitUsage  = 64
)

func main() {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(exitFailed)
	}
}

// run runs the soak with a harness.
func run(ctx context.Context, o real.Options) (err error) {
	setup, err := testenv.Open(ctx, progress)
	if err != nil {
		return err
	}
	release, err := setup.Own(ctx, func(holder string) {
		fmt.Fprintf(os.Stderr, "soak: waiting for the harness, which is in use by %s\n", holder)
	})
	if err != nil {
		return err
	}
	defer release()
	h, down, err := harness(ctx, setup)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, down()) }()
	return real.Run(ctx, h, o)
}

// harness returns the harness that `cmd/testenv up` has left running, or takes one up. down takes that
// one down.
func harness(ctx context.Context, setup *testenv.Setup) (h *testenv.Harness, down func() error, err error) {
	if setup.Kept() {
		if h, err := setup.Attach(ctx); err == nil {
			return h, func() error { return nil }, setup.Refresh(ctx)
		}
	}
	if err := setup.Build(ctx); err != nil {
		return nil, nil, err
	}
	h, err = setup.Up(ctx)
	return h, func() error { return setup.Down(context.WithoutCancel(ctx)) }, err
}

// progress prints the steps of the harness.
func progress(step string) (end func(error)) {
	began := time.Now()
	fmt.Fprintf(os.Stderr, "%s ...\n", step)
	return func(err error) {
		fmt.Fprintf(os.Stderr, "%s: %.0f s (%v)\n", step, time.Since(began).Seconds(), err)
	}
}
