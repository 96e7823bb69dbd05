package main

import (
	"context"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rcpt-milter/daemon"
	"rcpt-milter/internal/logging"
)

// lockWait is how long a starting daemon waits for an earlier one.
const lockWait = 10 * time.Second

// fileRest is how long an accept file must be at rest to count as complete, at the start and at a reload.
// While the daemon runs, it looks at the files as often.
const fileRest = 2 * time.Second

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "Runs the daemon in the foreground until SIGTERM or SIGINT.\n\n" +
			"SIGHUP reloads the configuration, like \"rcpt-milter reload\".\n\n" +
			"Exit status: 0 stopped by a signal, 1 failure, 78 the configuration is invalid.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.serve(command.Context()) },
	}
}

func (a *app) serve(ctx context.Context) error {
	// By default one line to a closed standard error ends the process.
	signal.Ignore(syscall.SIGPIPE)
	stderr := a.stderr
	a.stderr = logging.Impatient(a.stderr) // an unread one must not keep it from its end
	c, err := a.load()
	if err != nil {
		return err
	}
	return daemon.Serve(ctx, daemon.Options{
		ConfigPath: a.configPath, Config: c, Version: programVersion(), LockWait: a.lockWait, FileRest: a.fileRest,
		Log: logging.New(stderr, "rcpt-milter", daemon.LogOptions(c)),
	})
}
