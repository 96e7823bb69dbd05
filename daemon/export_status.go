package daemon

import (
	"slices"

	"rcpt-milter/config"
	"rcpt-milter/control"
)

// begin starts a pass. A file of another name has a status of its own, and another command has to
// run once.
func (x *exportFile) begin(o config.Export) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status.File != o.File || x.status.Format != o.Format {
		x.status = control.ExportStatus{File: o.File, Format: o.Format}
		x.done, x.pending = exportedState{}, true
	}
	if !slices.Equal(x.command, o.Command) {
		x.command, x.pending = o.Command, true
	}
}

// hold records why the last good file stays.
func (x *exportFile) hold(reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status.Held != reason {
		x.log.Warn("export held; the last good file stays", "file", x.status.File, "reason", reason)
	}
	x.status.Held = reason
}

// record records the list of a file that is current now, and how many recipients it cannot hold.
func (x *exportFile) record(entries, omitted int, written bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.status.Entries = int64(entries)
	if written {
		x.pending = true
		x.status.Written = control.Time{Time: x.now()}
		x.log.Info("export written", "file", x.status.File, "entries", entries)
		if omitted > 0 {
			x.log.Warn("export lacks recipients that a table cannot hold; Postfix would reject them", "file", x.status.File,
				"recipients", omitted)
		}
	}
}

// finish records the end of a pass that was not held.
func (x *exportFile) finish(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := control.Time{Time: x.now()}
	x.status.Held = ""
	if err == nil {
		if x.status.Trouble != "" {
			x.log.Info("export works again", "file", x.status.File)
		}
		x.status.Current, x.status.Trouble, x.status.Since = now, "", control.Time{}
		return
	}
	if x.status.Trouble == "" {
		x.status.Since = now
	}
	if x.status.Trouble != err.Error() {
		x.log.Error("export failed; trying again", "file", x.status.File, "error", err)
	}
	x.status.Trouble = err.Error()
}
