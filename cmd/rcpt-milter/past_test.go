package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// TestLookupAt: the same question at several times of a short life.
func TestLookupAt(t *testing.T) {
	r := newRig(t)
	r.edit("removal_grace: 0s", "removal_grace: 1h")
	moments := map[string]string{}
	mark := func(name string) { moments[name] = time.Now().UTC().Format(time.RFC3339Nano) }
	mark("before the daemon")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	mark("before it came")
	late := r.addUser("late", "smtp:late@corp.example")
	r.want(exitOK, "sync", "--wait")
	mark("while it was there")
	r.delete(late)
	r.want(exitOK, "sync", "--wait")
	mark("after it went")
	r.addUser("again", "smtp:late@corp.example")
	r.want(exitOK, "sync", "--wait")
	for _, c := range []struct {
		when, address string
		status        int
		want          string
	}{
		{"before it came", "late@corp.example", exitFailure, "550 5.1.1"},
		{"before it came", "jane@corp.example", exitOK, "in the index (verdict known, row 6)"},
		{"while it was there", "Late@corp.example", exitOK, "it lost the address since; directory corp"},
		{"after it went", "late@corp.example", exitTemporary, "verdict in-grace, row 8"},
		{"after it went", "postmaster@corp.example", exitOK, "always"},
		{"before the daemon", "postmaster@corp.example", exitOK, "always"},
		{"before the daemon", "late@corp.example", exitUsage, "the first directory was read in full at "},
		{"before the daemon", "nobody@elsewhere.example", exitOK, "not-ours"},
	} {
		out := r.want(c.status, "lookup", c.address, "--at", moments[c.when])
		if !strings.Contains(out, c.want) || c.status != exitUsage && !strings.Contains(out, "as of ") {
			t.Errorf("lookup of %s %s says\n%swant %q", c.address, c.when, out, c.want)
		}
	}
	out := r.want(exitOK, "lookup", "late@corp.example")
	if !strings.Contains(out, "history             + ") || !strings.Contains(out, "                    - ") ||
		strings.Contains(out, "as of") {
		t.Errorf("lookup of today shows no history:\n%s", out)
	}
	var answer control.LookupAnswer
	out = r.want(exitOK, "lookup", "late@corp.example", "--json", "--at", moments["while it was there"])
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.History) != 3 || answer.History[0].Change != "+" || answer.History[1].Change != "-" ||
		answer.At.IsZero() ||
		len(answer.Assumed) == 0 || len(answer.Owners) != 1 || answer.Owners[0].GUID != late.String() {
		t.Errorf("lookup --at --json gives %+v", answer)
	}
	r.want(exitUsage, "lookup", "late@corp.example", "--at", "tomorrow")
	r.want(exitUsage, "lookup", "late@corp.example", "--at", "30d")
}

// TestLookupAtUnreadDirectory: the content of a directory before its first pass is not known.
func TestLookupAtUnreadDirectory(t *testing.T) {
	r := newRig(t)
	r.edit("  report.example: report\ndirectories:\n",
		"  lab.example: enforce\ndirectories:\n  - name: lab\n    domains: [lab.example]\n"+
			"    urls: [ldaps://"+freePort(t)+"]\n    bind: {dn: x, password_file: "+r.dir+"/password}\n")
	r.edit("    poll: 100ms\n", "    poll: 100ms\n    domains: [corp.example]\n")
	r.serve()
	r.want(exitFailure, "sync", "--wait")
	at := time.Now().UTC().Format(time.RFC3339Nano)
	r.want(exitFailure, "lookup", "nobody@corp.example", "--at", at)
	if out := r.want(exitTemporary, "lookup", "nobody@lab.example", "--at", at); !strings.Contains(out,
		"lab is not ready") {
		t.Errorf("lookup says\n%s", out)
	}
}
