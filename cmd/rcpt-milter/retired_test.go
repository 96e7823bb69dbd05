package main

import (
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/control"
)

// withLab adds a second directory, of another simulated controller, and gives the
// lines of the configuration that name it.
func (r *rig) withLab() (other *rig, lines string) {
	r.t.Helper()
	other = newRig(r.t)
	lines = other.directoryLines("lab")
	r.edit("directories:\n", "directories:\n"+lines)
	r.edit("domains:\n", "domains:\n  lab.example: enforce\n")
	return other, lines
}

// directoryLines are the lines of a configuration that name the controller of this rig.
func (r *rig) directoryLines(name string) string {
	return fmt.Sprintf("  - name: %s\n    urls: [%s]\n    bind: {dn: %q, password_file: %s/password}\n    tls: "+
		"{ca_file: %s}\n    poll: 100ms\n",
		name, r.server.URL(), r.server.BindDN(), r.dir, r.ca)
}

// TestRetiredDirectory: one that is taken out of the configuration leaves through the
// guard.
func TestRetiredDirectory(t *testing.T) {
	r := newRig(t)
	other, lines := r.withLab()
	other.addUser("bob", "smtp:bob@lab.example")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "bob@lab.example")
	d.stop()
	r.edit(lines, "")
	for range 2 {
		d = r.serve()
		r.want(exitOK, "sync", "--wait")
		r.wantHeld("lab")
		r.want(exitOK, "lookup", "bob@lab.example")
		r.want(exitFailure, "lookup", "nobody@lab.example") // its state keeps nobody from being refused
		s := r.status()
		if len(s.Directories) != 2 || s.Directories[1].Name != "lab" || s.Directories[1].State != control.Retired ||
			s.State != control.Fresh {
			t.Errorf("status: %+v", s)
		}
		out := r.want(exitFailure, "status")
		if !strings.Contains(out, "Directory lab: retired\n") || !strings.Contains(out,
			"no address of the domain lab.example would be left") {
			t.Errorf("status says\n%s", out)
		}
		if got := rows[control.HeldRemoval](r, exitOK, "removals", "--directory", "lab"); len(got) != 1 ||
			got[0].WaitsFor != control.WaitsApproval ||
			got[0].Why != "no address of the domain lab.example would be left" {
			t.Errorf("removals gives %+v", got)
		}
		d.stop()
	}
	d = r.serve()
	r.wantHeld("lab")
	if out := r.want(exitOK, "removals", "approve", "--directory", "lab"); !strings.HasPrefix(out,
		"lab: 1 address removed") {
		t.Errorf("removals approve says %q", out)
	}
	r.want(exitTemporary, "lookup", "bob@lab.example") // no address of the domain is known any more
	r.want(exitOK, "lookup", "jane@corp.example")
	if s := r.status(); len(s.Directories) != 1 {
		t.Errorf("status still has %+v", s.Directories)
	}
	r.want(exitOK, "sync", "--wait")
	r.want(exitTemporary, "status")
	r.edit("  lab.example: enforce\n", "")
	r.want(exitOK, "reload")
	r.want(exitOK, "status")
	r.want(exitFailure, "removals", "approve", "--directory", "lab")
	if got := rows[control.JournalRow](r, exitOK, "journal"); len(got) != 3 || got[0].Directory != "lab" ||
		got[0].Change != "-" {
		t.Errorf("journal gives %+v", got)
	}
	d.stop()
}

// wantHeld waits until a directory that was taken out has been judged.
func (r *rig) wantHeld(name string) {
	r.t.Helper()
	for range 1000 {
		for _, d := range r.status().Directories {
			if d.Name == name && d.HeldRemovals > 0 {
				return
			}
		}
		if r.t.Context().Err() != nil {
			break
		}
	}
	r.t.Fatalf("nothing of %s is held: %+v", name, r.status())
}
