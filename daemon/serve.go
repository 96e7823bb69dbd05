package daemon

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

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/logging"
	"rcpt-milter/milter"
)

// ErrConfig marks errors that are caused by the configuration.
var ErrConfig = errors.New("bad configuration")

// configError marks an error with ErrConfig without changing its text.
type configError struct{ error }

func (e configError) Unwrap() []error { return []error{e.error, ErrConfig} }

// umask keeps other users from reading the files of the daemon, which have all addresses.
const umask = 0o077

// Options configure a daemon. All but LockWait and FileRest are required.
type Options struct {
	ConfigPath string         // read again by reloads
	Config     *config.Config // the parsed content of ConfigPath
	Version    string         // version of the program, shown to people
	Log        *logging.Log
	LockWait   time.Duration // how long to wait for an earlier daemon to release the store
	FileRest   time.Duration // how long an accept file must be at rest to count as complete; zero: not at all
}

// Serve runs the daemon until ctx ends or a part fails. SIGHUP reloads the configuration. Serve also runs and
// closes the log. It returns an ErrConfig if the configuration is wrong.
func Serve(ctx context.Context, o Options) error {
	defer limitHeap().stop()
	hangup := make(chan os.Signal, 1) // from now on, SIGHUP does not end the process
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	raiseDescriptorLimit()
	syscall.Umask(umask) // sockets have their own permissions
	log := o.Log.Logger()
	go o.Log.Run()
	defer o.Log.Close()
	defer milter.BridgeLog(log)()
	if err := logFiles(o.Config, log, filesWithCopy(o.Config)...); err != nil {
		return err
	}
	if err := checkOwner(o.Config.Store.Dir, os.Geteuid()); err != nil {
		log.Warn("root runs the daemon on the store of another account", "error", err)
	}
	limitMemory(log)
	if err := checkAddressSpace(addressSpace + 2*storeSize(o.Config.Store.Dir)); err != nil {
		return err
	}
	d := newDaemon(o)
	ended := make(chan error, 1)
	go func() { ended <- d.serve(ctx, o, hangup) }()
	defer context.AfterFunc(ctx, d.ending.begin)()
	return d.ending.wait(ended, log)
}

// serve opens, runs and closes the daemon.
func (d *daemon) serve(ctx context.Context, o Options, hangup <-chan os.Signal) error {
	if err := d.open(ctx, o); ctx.Err() != nil && err != nil {
		return nil // stopped during the start
	} else if err != nil {
		return err
	}
	stop := d.watchSignals(ctx, hangup)
	err := d.run(ctx)
	stop()
	if closed := d.close(); err == nil {
		err = closed
	}
	d.log.Info("stopped")
	return err
}

// LogOptions returns the settings of the log in a configuration.
func LogOptions(c *config.Config) logging.Options {
	return logging.Options{Format: c.Log.Format, Level: c.Log.Level, Syslog: c.Log.Syslog}
}

// logFiles logs warnings about the configuration and the files that it names. A file that does
// not exist is an ErrConfig. An unusable file is only logged: it keeps a directory from being
// read, but the index still answers. The accept files in held have a last good copy, so they may be
// missing.
func logFiles(c *config.Config, log *slog.Logger, held ...string) error {
	warnings, err := c.CheckFiles(held...)
	if errors.Is(err, config.ErrMissing) {
		return configError{err}
	}
	if err != nil {
		warnings = append(warnings, err)
	}
	for _, w := range warnings {
		log.Warn("cannot use configured file", "error", w)
	}
	for _, w := range c.Warnings() {
		log.Warn("suspicious configuration", "error", w)
	}
	return nil
}

// watchSignals reloads at SIGHUP, and logs when ctx ends. The returned function stops it.
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
				d.log.Info("stopping; waiting for open sessions", "longest", drainTimeout)
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
