package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/text"
	"rcpt-milter/mirror"
)

// reloads is what became of reading the configuration again. The zero value: it was not.
type reloads struct {
	path string // of the file

	turn  sync.Mutex // of the one reload there may be
	ended bool       // the daemon is about to let go of what a reload would use

	mu   sync.Mutex
	last control.Reloaded
}

func (r *reloads) note(last control.Reloaded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last.Refused != "" { // what is in force waits for a restart as before
		last.Restart = r.last.Restart
	}
	r.last = last
}

// outcome is that of the last one.
func (r *reloads) outcome() control.Reloaded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// end waits for a reload under way; there is none after it.
func (r *reloads) end() {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.ended = true
}

// reload reads the configuration again and puts it into force, but for the keys that
// need a restart. A file that is bad changes nothing.
func (d *daemon) reload() control.Reloaded {
	d.reloads.turn.Lock()
	defer d.reloads.turn.Unlock()
	if d.reloads.ended {
		return control.Reloaded{Refused: "the daemon is about to stop"}
	}
	notify(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	defer notify(systemd.SdNotifyReady)
	var done control.Reloaded
	err := mirror.Safely(d.log, "reload", func() (err error) {
		done, err = d.readAgain()
		return err
	})
	if err != nil {
		done.Refused = err.Error()
		d.log.Error("configuration refused, the one before it stays in force", "error", err)
	} else {
		d.log.Info("configuration read again", "changed", done.Changed)
	}
	if len(done.Restart) > 0 {
		d.log.Warn("keys of the configuration have other values now, which need a restart", "keys", done.Restart)
	}
	d.reloads.note(done)
	return done
}

func (d *daemon) readAgain() (done control.Reloaded, err error) {
	read, err := config.Load(d.reloads.path)
	if err != nil {
		return done, err
	}
	running := d.config.Load()
	if err := logFiles(read, d.log, running.AcceptFiles...); err != nil {
		return done, err
	}
	next, restart := read.WithRestartKeysOf(running)
	s, err := d.setUp(next)
	if err != nil {
		return done, err
	}
	d.enact(s)
	return control.Reloaded{Changed: next.Changes(running), Restart: restart}, nil
}

func (b backend) Reload(context.Context) (control.Reloaded, error) { return b.daemon.reload(), nil }

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its configuration again",
		Long: "Has the daemon read its configuration again, as SIGHUP does, and tells what changed. No session ends,\n" +
			"and a directory that did not change keeps its connection. Keys that need a restart are named, and\n" +
			"keep their old values until then. A file with a mistake in it is refused as a whole.\n\n" +
			"Exit status: 0 it is in force, 78 it is refused and the one before it stays in force.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.reload(command.Context()) },
	}
}

func (a *app) reload(ctx context.Context) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	done, err := client.Reload(ctx)
	if err != nil {
		return err
	}
	if done.Refused != "" {
		return &exit{exitConfig, errors.New(done.Refused + "\nthe configuration is refused; the one before it stays in force")}
	}
	s := "The configuration is in force; nothing in it has changed.\n"
	if len(done.Changed) > 0 {
		s = "The configuration is in force. Changed: " + text.Printable(strings.Join(done.Changed, ", ")) + "\n"
	}
	if len(done.Restart) > 0 {
		s += "Changed too, and waiting for a restart: " + text.Printable(strings.Join(done.Restart, ", ")) + "\n"
	}
	_, err = fmt.Fprint(a.stdout, s)
	return err
}
