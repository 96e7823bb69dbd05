package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"rcpt-milter/control"
)

// TestReload: what a policy is made of changes under an open session, which neither ends
// nor loses an answer.
func TestReload(t *testing.T) {
	r := newRig(t)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	stop := r.probe(map[string]string{"jane@corp.example": "continue", "nobody@corp.example": "550"})
	connections := r.connections()
	session.want(t, "nobody@report.example", "continue")
	session.want(t, "sales@corp.example", "550")

	r.edit("report.example: report", "report.example: enforce\n  new.example: enforce")
	r.edit("level: debug", "level: warn, format: json")
	r.edit("removal_grace: 0s", "removal_grace: 0s\nalways_accept: [postmaster, sales]\nlimits: {connections: 3, "+
		"idle: 1h}\nlate_after: 1m")
	said := r.want(exitOK, "reload")
	session.want(t, "nobody@report.example", "451") // no address of it is known
	session.want(t, "nobody@new.example", "451")
	session.want(t, "sales@corp.example", "continue")
	if s := r.status(); s.Modes["new.example"] != "enforce" || s.ReloadError != "" || len(s.RestartNeeded) != 0 {
		t.Errorf("status: %+v", s)
	}
	r.compareAt("reload.txt", said+r.want(exitOK, "reload"))
	stop()
	if n := r.server.Stats().Connections; n != connections {
		t.Errorf("the directory was connected to %d times more", n-connections)
	}
	if strings.Contains(d.log.String(), `"msg":"configuration reloaded"`) {
		t.Errorf("level warn is not in effect:\n%s", d.log)
	}
}

// TestReloadRefused: a bad file changes nothing, is reported, and can be corrected.
func TestReloadRefused(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	good, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	stop := r.probe(map[string]string{"jane@corp.example": "continue", "nobody@corp.example": "550",
		"nobody@report.example": "continue"})
	defer stop()
	var said strings.Builder
	for _, c := range []struct{ name, old, new, want string }{
		{"value", "report.example: report", "report.example: reject", `config.yaml:9:19: domains["report.example"]: `},
		{"syntax", "domains:", "domains: [", "config.yaml:"},
		{"missing file", "/password}", "/elsewhere}", r.dir + "/elsewhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.edit(c.old, c.new)
			said.WriteString(r.want(exitConfig, "reload"))
			if s := r.status(); !strings.Contains(s.ReloadError, c.want) {
				t.Errorf("with %q reload_error is %q, want %q", c.new, s.ReloadError, c.want)
			}
			r.want(exitFailure, "status")
			r.want(exitOK, "lookup", "jane@corp.example")
			r.write("config.yaml", string(good))
		})
	}
	r.compareAt("reload-rejected.txt", said.String())
	r.want(exitOK, "reload")
	r.want(exitOK, "status")
}

// TestReloadNeedsRestart: what is held open stays as it is, and is named.
func TestReloadNeedsRestart(t *testing.T) {
	r := newRig(t)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.edit("/milter/milter.sock", "/milter/other.sock")
	r.edit("min_free: 1MiB", "min_free: 2MiB")
	r.edit(`metrics: ""`, "metrics: inet:"+freePort(t))
	r.edit("report.example: report", "report.example: enforce")
	said := ""
	for range 2 {
		said += r.want(exitOK, "reload")
		if got := r.status().RestartNeeded; !slices.Equal(got, []string{"listen", "metrics", "store.min_free"}) {
			t.Errorf("restart_needed: %q", got)
		}
	}
	r.compareAt("reload-restart.txt", said)
	if _, err := os.Lstat(filepath.Join(r.dir, "milter/other.sock")); !os.IsNotExist(err) {
		t.Errorf("the new socket is there already (%v)", err)
	}
	if out := r.want(exitTemporary, "status"); !strings.Contains(out, "listen, metrics, store.min_free\n") {
		t.Errorf("status does not name the keys:\n%s", out)
	}
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	session.Close()
	d.stop()
	r.serve()
	if got := r.status().RestartNeeded; len(got) != 0 {
		t.Errorf("restart_needed after the restart: %q", got)
	}
}

// TestReloadDirectories: directories come, change and go, and no address that one of them
// has is refused at any moment.
func TestReloadDirectories(t *testing.T) {
	r := newRig(t)
	other := newRig(t)
	other.addUser("bob", "smtp:bob@lab.example")
	r.edit("    poll: 100ms\n", "    domains: [corp.example, report.example]\n    poll: 100ms\n")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	defer r.probe(map[string]string{
		"jane@corp.example": "continue", "nobody@corp.example": "550",
		// Not ours, then not read yet, then known; and never unknown.
		"bob@lab.example": "continue 451",
	})()
	corp := r.connections()

	lines := strings.Replace(other.directoryLines("lab"), "poll: 100ms", "domains: [lab.example]\n    poll: 99ms", 1)
	r.edit("directories:\n", "directories:\n"+lines)
	r.edit("domains:\n", "domains:\n  lab.example: enforce\n")
	if out := r.want(exitOK, "reload"); !strings.Contains(out, "domains, directories[lab]\n") {
		t.Errorf("reload says %q", out)
	}
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "bob@lab.example")
	if n := r.server.Stats().Connections; n != corp {
		t.Errorf("the other directory was connected to %d times more", n-corp)
	}

	// Another interval takes a new connection, and no full pass.
	stop := r.probe(map[string]string{"bob@lab.example": "continue", "nobody@lab.example": "550"})
	full := r.fullPass("lab")
	r.edit("poll: 99ms\n", "poll: 98ms\n")
	r.want(exitOK, "reload")
	r.want(exitOK, "sync", "--wait")
	if got := r.fullPass("lab"); got != full {
		t.Errorf("a new interval led to full pass %d", got)
	}
	stop()

	// New rules: what is not known is not refused before they have been read by. The
	// controller does not answer until that has been seen.
	other.server.Down()
	r.edit("poll: 98ms\n", "poll: 98ms\n    bases: [\"CN=Users,"+base+"\"]\n")
	r.want(exitOK, "reload")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "nobody@lab.example", "451")
	session.want(t, "bob@lab.example", "continue")
	if err := other.server.Up(); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait")
	session.want(t, "nobody@lab.example", "550")

	// Taken out, it leaves through the guard; put back, it is read again.
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.cutDirectory("lab")
	r.edit("domains: [corp.example, report.example]", "domains: [corp.example, report.example, lab.example]")
	r.want(exitOK, "reload")
	r.wantHeld("lab")
	session.want(t, "bob@lab.example", "continue")
	if s := r.status(); len(s.Directories) != 2 || s.Directories[1].State != control.Retired {
		t.Errorf("status: %+v", s.Directories)
	}
	r.write("config.yaml", string(text))
	other.server.Down()
	r.want(exitOK, "reload")
	session.want(t, "nobody@lab.example", "451")
	if err := other.server.Up(); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait")
	if s := r.status(); len(s.Directories) != 2 || s.Directories[0].State != control.Fresh ||
		s.Directories[0].HeldRemovals != 0 {
		t.Errorf("status: %+v", s.Directories)
	}
	session.want(t, "nobody@lab.example", "550")
	session.want(t, "bob@lab.example", "continue")
	r.want(exitOK, "status")
}

// TestHangup: SIGHUP is the same as reload.
func TestHangup(t *testing.T) {
	r := newRig(t)
	d := r.serve()
	r.edit("report.example: report", "report.example: enforce")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for r.status().Modes["report.example"] != "enforce" {
		if t.Context().Err() != nil {
			t.Fatalf("not in effect\n%s", d.log)
		}
	}
	r.edit("report.example: enforce", "report.example: maybe")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for r.status().ReloadError == "" {
		if t.Context().Err() != nil {
			t.Fatalf("not refused\n%s", d.log)
		}
	}
	d.stop()
}

// fullPass is the number of the last full pass of a directory.
func (r *rig) fullPass(name string) uint64 {
	r.t.Helper()
	for _, d := range r.status().Directories {
		if d.Name == name && d.LastFull != nil {
			return d.LastFull.Number
		}
	}
	r.t.Fatalf("no full pass of %s", name)
	return 0
}

// cutDirectory takes a directory out of the configuration.
func (r *rig) cutDirectory(name string) {
	r.t.Helper()
	text, err := os.ReadFile(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), "  - name: "+name+"\n")
	if !found {
		r.t.Fatalf("no directory %s in the configuration", name)
	}
	_, after, _ := strings.Cut(rest, "  - name: ")
	r.write("config.yaml", before+"  - name: "+after)
}
