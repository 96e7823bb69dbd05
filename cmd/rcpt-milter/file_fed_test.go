package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// newFileFedRig is a host without a directory, whose file was modified this long ago.
func newFileFedRig(t *testing.T, age time.Duration) (r *rig, file string) {
	r = newRig(t)
	text := r.read(r.config)
	text = regexp.MustCompile(`(?s)directories:\n.*removal_grace`).ReplaceAllString(text,
		"directories: []\naccept_files: ["+r.dir+"/table]\naccept_files_max_age: 24h\nremoval_grace")
	r.write("config.yaml", text)
	file = r.write("table", "filed@corp.example OK\nfiled@report.example OK\n")
	r.age(file, age)
	return r, file
}

// age makes a file so old.
func (r *rig) age(file string, age time.Duration) {
	r.t.Helper()
	if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
		r.t.Fatal(err)
	}
}

// TestFileFedHost: a daemon without a directory judges by its files, and as "cannot tell" by stale
// ones. Every command says so.
func TestFileFedHost(t *testing.T) {
	for _, c := range []struct {
		name    string
		age     time.Duration
		exit    int    // of status
		unknown int    // of lookup
		state   string // of the index
		trouble string // in status and check; empty: none
	}{
		{"fresh", time.Hour, exitOK, exitFailure, "fresh", ""},
		{"stale", 25 * time.Hour, exitTemporary, exitTemporary, "stale", "older than accept_files_max_age"},
		{"of the future", -time.Hour, exitTemporary, exitTemporary, "stale", "modified in the future"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, file := newFileFedRig(t, c.age)
			d := r.serve()
			r.want(exitOK, "lookup", "filed@corp.example")
			if out := r.want(c.unknown, "lookup", "nobody@corp.example"); c.trouble != "" &&
				!strings.Contains(out, file) {
				t.Errorf("lookup says\n%s", out)
			}
			if s := r.status(); string(s.State) != c.state || len(s.AcceptFiles) != 1 ||
				string(s.AcceptFiles[0].State) != c.state || s.AcceptFiles[0].Modified.IsZero() {
				t.Errorf("status says %+v", s)
			}
			check := fmt.Sprint(r.findings(false))
			for command, out := range map[string]string{"status": r.want(c.exit, "status"),
				"status --nagios": r.want(c.exit, "status", "--nagios"), "check": check} {
				words := c.trouble
				if words == "" {
					words = "accept_files_max_age"
				}
				out = strings.Join(strings.Fields(out), " ") // wrapped lines
				if strings.Contains(out, words) != (c.trouble != "") {
					t.Errorf("%s says\n%s", command, out)
				}
			}
			if c.trouble != "" {
				d.log.count("accept file state changed", 1)
				if log := d.log.String(); !strings.Contains(log, `msg="accept file state changed" file=`+file+
					" state=stale") {
					t.Errorf("the log says\n%s", log)
				}
			}

			r.age(file, time.Minute) // a new version, with the same content
			r.want(exitOK, "reload")
			r.want(exitFailure, "lookup", "nobody@corp.example")
			r.want(exitOK, "status")
			r.age(file, 25*time.Hour)
			r.want(exitOK, "reload")
			r.want(exitTemporary, "lookup", "nobody@corp.example")
			r.edit("accept_files_max_age: 24h", "accept_files_max_age: 0")
			r.want(exitOK, "reload")
			r.want(exitFailure, "lookup", "nobody@corp.example")
			r.want(exitOK, "status")
			d.stop()
		})
	}
}

// TestStaleFileBesideDirectory: an accept file is judged by its age on a host with a directory too,
// and the domains of the directory that it does not name are not affected.
func TestStaleFileBesideDirectory(t *testing.T) {
	r := newRig(t)
	file := r.write("table", "filed@report.example OK\n")
	r.age(file, 25*time.Hour)
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept_files: ["+file+"]\naccept_files_max_age: 1d\n")
	r.edit("report.example: report", "report.example: enforce")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "filed@report.example")
	r.want(exitTemporary, "lookup", "nobody@report.example")
	r.want(exitOK, "lookup", "jane@corp.example")
	r.want(exitFailure, "lookup", "nobody@corp.example")
	r.want(exitTemporary, "status")
}

// TestExportOfFileFedHost: a host without a directory exports the recipients of its files, with a
// daemon and without one.
func TestExportOfFileFedHost(t *testing.T) {
	r, _ := newFileFedRig(t, time.Hour)
	d := r.serve()
	for _, what := range []string{"with a daemon", "without one"} {
		if out := r.want(exitOK, "export", "--format", "text"); !strings.HasPrefix(out,
			"filed@corp.example\nfiled@report.example\n") {
			t.Errorf("%s: export says\n%s", what, out)
		}
		d.stop()
	}
}
