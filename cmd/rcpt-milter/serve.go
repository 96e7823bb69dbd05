package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/logging"
	"rcpt-milter/milter"
	"rcpt-milter/mirror"
)

// lockWait is how long a starting daemon waits for the one before it.
const lockWait = 10 * time.Second

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "Runs the daemon in the foreground until SIGTERM or SIGINT.\n\n" +
			"SIGHUP has it read its configuration again, as \"rcpt-milter reload\" does.\n\n" +
			"Exit status: 0 stopped as told, 1 failure.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.serve(command.Context()) },
	}
}

func (a *app) serve(ctx context.Context) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1) // from now on it does not end the process
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	logs := logging.New(a.stderr, "rcpt-milter", logOptions(c))
	go func() {
		_ = mirror.Safely(slog.New(slog.NewTextHandler(a.stderr, nil)), "log", func() error { logs.Run(); return nil })
	}()
	defer logs.Close()
	log := logs.Logger()
	defer milter.BridgeLog(log)()
	if err := logFiles(c, log); err != nil {
		return err
	}
	d, err := openDaemon(ctx, a.configPath, c, a.lockWait, logs)
	if ctx.Err() != nil {
		err = nil // told to stop before it began
	}
	if d == nil || err != nil {
		return err
	}
	stop := d.watchSignals(ctx, hangup)
	err = d.run(ctx)
	stop()
	if closed := d.close(); err == nil {
		err = closed
	}
	log.Info("stopped")
	return err
}

// logOptions returns the part of a configuration that concerns the log.
func logOptions(c *config.Config) logging.Options {
	return logging.Options{Format: c.Log.Format, Level: c.Log.Level, Syslog: c.Log.Syslog}
}

// logFiles looks at the configuration and the files that it names. One that does not exist is
// a mistake in it. One that cannot be used now keeps a directory from being read, and
// is no reason to stop answering from the index; neither is an accept file that is held.
func logFiles(c *config.Config, log *slog.Logger, held ...string) error {
	warnings, err := c.CheckFiles(held...)
	if errors.Is(err, config.ErrMissing) {
		return &exit{exitConfig, err}
	}
	if err != nil {
		warnings = append(warnings, err)
	}
	for _, w := range warnings {
		log.Warn("trouble with a file of the configuration", "error", w)
	}
	for _, w := range c.Warnings() {
		log.Warn("the configuration is hardly meant so", "error", w)
	}
	return nil
}

// watchSignals reloads at SIGHUP, and notes the end of ctx. What it gives stops it.
func (d *daemon) watchSignals(ctx context.Context, hangup <-chan os.Signal) func() {
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-hangup:
				control.BySignal("SIGHUP").Reloaded(d.log, d.reload())
			case <-ctx.Done():
				notify(systemd.SdNotifyStopping)
				d.log.Info("told to stop, waiting for open sessions", "longest", drainFor)
				return
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		watch.Wait()
	}
}
