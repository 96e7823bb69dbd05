package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		"%[1]s/all;;\n-n) cat %[2]s/n;;\n-M) cat %[1]s/debian/M;;\n-P) cat %[1]s/debian/P;;\n*) exit 1;;\nesac\n", dir, bin))
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
	if out := r.want(exitOK, "doctor"); !strings.HasPrefix(out, "note: no recipient is rejected in report.example (mode "+
		"report) [mode-report]\n") || !strings.HasSuffix(out, "\nNo problems, 1 note.\n") {
		t.Errorf("doctor says\n%s", out)
	}
	r.fakePostfix(healthy + "virtual_alias_maps = hash:/virtual\nsoft_bounce = yes\n")
	out := r.want(exitFailure, "doctor", "--postfix-config", "/etc/postfix-in")
	for _, want := range []string{
		"problem: hash:/virtual, of virtual_alias_maps, has 1 address that the daemon does not accept: info@corp.example " +
			"[alias-not-accepted]\n  why                 Postfix rewrites",
		"\n  fix                 in config.yaml: accept_files: [/virtual]\n",
		"\n  fix                 postconf -c /etc/postfix-in -e 'soft_bounce = no'\n",
		"\n2 problems, 1 note. After the fix: postfix reload",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor has no %q:\n%s", want, out)
		}
	}
	d.stop()
	_, stdout, _ := r.command("doctor", "--json")
	var got diagnosis
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("doctor --json: %v in\n%s", err, stdout)
	}
	if got.Problems != 3 || got.Notes != 1 || got.Findings[0].Name != "daemon-silent" ||
		got.Findings[0].Level != postfix.Problem || len(got.Findings[0].Fix) == 0 {
		t.Errorf("doctor --json says %+v", got)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := os.Stat("/usr/sbin/postconf"); err == nil {
		return
	}
	if out := r.want(exitFailure, "doctor"); !strings.Contains(out,
		"there is no Postfix on this host: postconf is neither in PATH nor in /usr/sbin; run this where Postfix runs") {
		t.Errorf("doctor without Postfix says %s", out)
	}
}
