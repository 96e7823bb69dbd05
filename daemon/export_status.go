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

// record records the list of a file that is current now, and why it keeps the entries of the last
// one.
func (x *exportFile) record(done listTotals, doubt string, written bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.status.Entries, x.status.Kept = int64(done.entries), int64(done.kept)
	if x.status.Union != doubt {
		x.status.Union = doubt
		if doubt != "" {
			x.log.Warn("export is the union of the last list and the present one", "file", x.status.File,
				"reason", doubt, "kept", done.kept)
		} else {
			x.log.Info("export is the present list again", "file", x.status.File)
		}
	}
	if !written {
		return
	}
	x.pending = true
	x.status.Written = control.Time{Time: x.now()}
	x.log.Info("export written", "file", x.status.File, "entries", done.entries)
	if done.omitted > 0 {
		x.log.Warn("export lacks recipients that a table cannot hold; Postfix would reject them", "file", x.status.File,
			"recipients", done.omitted)
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
		x.status.Trouble, x.status.Since = "", control.Time{}
		if x.status.Union == "" {
			x.status.Current = now
		}
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
