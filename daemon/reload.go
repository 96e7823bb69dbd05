package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/safely"
	"rcpt-milter/internal/text"
	tables "rcpt-milter/postfix/table"
)

// reloads serializes reloads and keeps the result of the last one.
type reloads struct {
	path string // path of the configuration file

	turn   sync.Mutex // held during a reload
	closed bool       // the daemon is stopping and releases what a reload would use

	mu   sync.Mutex
	last control.Reloaded
}

func (r *reloads) record(last control.Reloaded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last.Refused != "" { // changed keys of an earlier reload still need a restart
		last.Restart = r.last.Restart
	}
	r.last = last
}

// lastOutcome returns the result of the last reload, or the zero value if there was none.
func (r *reloads) lastOutcome() control.Reloaded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// close waits for a running reload and prevents further reloads.
func (r *reloads) close() {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.closed = true
}

// reload reads the configuration again and applies it, except for keys that need a restart. An invalid file
// changes nothing.
func (d *daemon) reload() control.Reloaded {
	d.reloads.turn.Lock()
	defer d.reloads.turn.Unlock()
	if d.reloads.closed {
		return control.Reloaded{Refused: "the daemon is about to stop"}
	}
	notify(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	defer notify(systemd.SdNotifyReady)
	var done control.Reloaded
	err := safely.Do(d.log, "reload", func() (err error) {
		done, err = d.reread()
		return err
	})
	if err != nil {
		done.Refused = err.Error()
		d.log.Error("configuration rejected; the previous one stays in effect", "error", err)
	} else {
		d.log.Info("configuration reloaded", "changed", done.Changed, "accept_files", done.AcceptFiles)
	}
	if len(done.Restart) > 0 {
		d.log.Warn("changed keys need a restart", "keys", done.Restart)
	}
	d.reloads.record(done)
	return done
}

func (d *daemon) reread() (done control.Reloaded, err error) {
	read, err := config.Load(d.reloads.path)
	if err != nil {
		return done, err
	}
	running := d.config.Load()
	if err := logFiles(read, d.log, running.AcceptFiles...); err != nil {
		return done, err
	}
	next, restart := read.WithRestartKeysOf(running)
	s, err := d.prepare(next)
	if err != nil {
		return done, err
	}
	before := d.files.Status()
	d.apply(s)
	return control.Reloaded{Changed: next.Changes(running), Restart: restart,
		AcceptFiles: fileChanges(before, d.files.Status())}, nil
}

// fileChanges reports the accept files whose number of entries has changed, one sentence each. A reload also applies
// a file that lost most of its entries, which may be a mistake.
func fileChanges(before, after []tables.FileStatus) (all []string) {
	for _, now := range after {
		at := slices.IndexFunc(before, func(b tables.FileStatus) bool { return b.File == now.File })
		if at >= 0 && before[at].Entries != now.Entries {
			all = append(all, fmt.Sprintf("%s has %s now (before: %s)", now.File,
				text.Count(now.Entries, "entry", "entries"), text.Number(before[at].Entries)))
		}
	}
	return all
}

func (b backend) Reload(context.Context) (control.Reloaded, error) { return b.daemon.reload(), nil }
