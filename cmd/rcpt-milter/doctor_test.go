package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	"rcpt-milter/postfix"
)

// fakePostfix puts commands into PATH that print what the real ones of Debian did; n
// replaces what postconf -n prints.
func (r *rig) fakePostfix(n string) {
	r.t.Helper()
	dir, err := filepath.Abs("../../postfix/testdata/postconf")
	if err != nil {
		r.t.Fatal(err)
	}
	bin := filepath.Join(r.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.write("bin/n", n)
	r.write("bin/postconf", fmt.Sprintf("#!/bin/sh\n[ \"$1\" = -c ] && shift 2\ncase \"$1\" in\n\"\") cat "+
		"%[1]s/all;;\n-n) cat %[2]s/n;;\n-M) cat %[1]s/debian/M;;\n-P) cat %[1]s/debian/P;;\n*) exit 1;;\nesac\n", dir,
		bin))
	r.write("bin/postmap", "#!/bin/sh\n[ \"$1\" = -c ] && shift 2\ncase \"$1 $2\" in\n\"-s hash:/virtual\") printf "+
		"'info@corp.example\\tx\\njane@corp.example\\ty\\n';;\n"+
		"\"-q \"*) exit 1;;\n*) echo 'postmap: fatal: open database: No such file or directory' >&2; exit 1;;\nesac\n")
	for _, name := range []string{"postconf", "postmap"} {
		if err := os.Chmod(filepath.Join(bin, name), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestDoctor(t *testing.T) {
	r := newRig(t)
	r.addUser("roles", "smtp:postmaster@corp.example", "smtp:abuse@corp.example", "smtp:postmaster@report.example",
		"smtp:abuse@report.example")
	// An owner that every host has: doctor asks what smtpd's user may do.
	healthy := "mail_owner = root\nalias_maps =\nvirtual_alias_maps =\naddress_verify_sender =\nmydestination " +
		"=\nrelay_domains = corp.example, report.example\nparent_domain_matches_subdomains =\n" +
		"queue_directory = " + r.dir + "\nsmtpd_milters = { unix:milter/milter.sock, default_action=tempfail }\n"
	r.fakePostfix(healthy)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	if got := r.diagnose(exitOK); got != "note mode-report" {
		t.Errorf("doctor finds %s", got)
	}
	r.fakePostfix(healthy + "virtual_alias_maps = hash:/virtual\nsoft_bounce = yes\n")
	if got := r.diagnose(exitFailure); got != "note mode-report, problem alias-not-accepted, problem soft-bounce" {
		t.Errorf("doctor finds %s", got)
	}
	compare(t, "doctor.txt", r.want(exitFailure, "doctor", "--postfix-config", "/etc/postfix-in"))
	r.fakePostfix(healthy + "relay_recipient_maps = socketmap:unix:milter/map.sock:recipients\n")
	r.edit("report.example: report", "report.example: pass")
	r.edit("control: ", "listen_socketmap: unix:"+r.dir+"/milter/map.sock\ncontrol: ")
	if got := r.diagnose(exitFailure); got != "problem config-not-loaded, problem socket-missing" {
		t.Errorf("before the reload doctor finds %s", got)
	}
	r.want(exitOK, "reload")
	if got := r.diagnose(exitFailure); got != "note config-restart, problem socket-missing" {
		t.Errorf("before the restart doctor finds %s", got)
	}
	d.stop()
	d = r.serve()
	if got := r.diagnose(exitOK); got != "" {
		t.Errorf("after the restart doctor finds %s", got)
	}
	r.fakePostfix(healthy + "recipient_delimiter = +\n")
	if got := r.diagnose(exitOK); got != "note delimiter" {
		t.Errorf("with extensions doctor finds %s", got)
	}
	r.edit("control: ", "recipient_delimiter: \"\"\ncontrol: ")
	if got := r.diagnose(exitOK); got != "" {
		t.Errorf("without extensions doctor finds %s", got)
	}
	d.stop()
	if got := r.diagnose(exitFailure); !strings.HasPrefix(got, "problem daemon-silent, ") {
		t.Errorf("doctor without a daemon finds %s", got)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := os.Stat("/usr/sbin/postconf"); err == nil {
		return
	}
	if out := r.want(exitFailure, "doctor"); !strings.Contains(out, postfix.ErrNoPostfix.Error()) {
		t.Errorf("doctor without Postfix says %s", out)
	}
}

// diagnose returns the levels and names of the findings of doctor, in their order.
func (r *rig) diagnose(status int) string {
	r.t.Helper()
	got, stdout, stderr := r.command("doctor", "--json")
	var d diagnosis
	if err := json.Unmarshal([]byte(stdout), &d); err != nil || got != status {
		r.t.Fatalf("doctor --json: exit status %d, want %d, %v\n%s%s", got, status, err, stdout, stderr)
	}
	problems, names := 0, []string{}
	for _, f := range d.Findings {
		if f.Level == postfix.Problem {
			problems++
		}
		if len(f.Fix) == 0 && f.Level == postfix.Problem || f.What == "" || f.Why == "" {
			r.t.Errorf("finding %+v", f)
		}
		names = append(names, string(f.Level)+" "+f.Name)
	}
	if problems != d.Problems || len(d.Findings)-problems != d.Notes {
		r.t.Errorf("%d problems and %d notes of %v", d.Problems, d.Notes, names)
	}
	return strings.Join(names, ", ")
}

// TestDoctorOfAStatus checks that the state of the directories and that of accept files do not mix, because their
// remedies differ, and that doctor says what unknown recipients get.
func TestDoctorOfAStatus(t *testing.T) {
	now := time.Now()
	file := control.AcceptFile{File: "/etc/list", State: control.Stale,
		Modified: control.Time{Time: now.Add(-time.Hour)}}
	for _, c := range []struct {
		name string
		s    control.Status
		want postfix.Daemon
	}{
		{"fresh", control.Status{State: control.Fresh, Directories: []control.DirectoryStatus{{State: control.Fresh}}},
			postfix.Daemon{State: "fresh"}},
		{"stale, and unknown recipients are accepted", control.Status{State: control.Stale, WhenStale: "accept",
			Directories: []control.DirectoryStatus{{State: control.Stale}}},
			postfix.Daemon{State: "stale", Unknown: "unknown recipients are accepted now (when_stale: accept)"}},
		{"a stale accept file", control.Status{State: control.Stale, AcceptFiles: []control.AcceptFile{file},
			Directories: []control.DirectoryStatus{{State: control.Fresh}}},
			postfix.Daemon{State: "fresh", StaleFiles: []string{"/etc/list: " + file.StaleText(now)}}},
		{"an empty domain, and its recipients are accepted", control.Status{WhenNotReady: "accept",
			EmptyDomains: []string{"typo.example"}}, postfix.Daemon{State: "fresh", Empty: []string{"typo.example"},
			EmptyReply: "all recipients there are accepted (when_not_ready: accept)"}},
		{"the rest", control.Status{StoreState: control.StoreFailed, ReloadError: "bad",
			RestartNeeded: []string{"listen"},
			Modes:         map[string]string{"example.com": "pass"}, Listeners: []control.ListenerStatus{
				{Name: control.ListenerMilter, Limit: 50}, {Name: control.ListenerControl, Limit: 7}}},
			postfix.Daemon{State: "fresh", Store: "failed", Rejected: "bad", Restart: []string{"listen"},
				Modes: map[string]string{"example.com": "pass"}, Possible: 50}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got postfix.Daemon
			addStatus(&got, c.s, now)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}
