package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/control"
)

// filedRig accepts the addresses of a file with one invalid line.
func filedRig(t *testing.T) (r *rig, file string) {
	r = newRig(t)
	file = r.write("table", "# old\nfiled@corp.example OK\n\"spoilt@corp.example OK\n@whole.example OK\n")
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept_files: ["+file+"]\n")
	return r, file
}

func TestAcceptFiles(t *testing.T) {
	r, file := filedRig(t)
	address := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+address)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	var answer control.LookupAnswer
	if err := json.Unmarshal([]byte(r.want(exitOK, "lookup", "--json", "Filed@corp.example")), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Verdict != "allowlisted" || answer.Entry != file+":2" || answer.Rule != 5 {
		t.Errorf("lookup says %+v", answer)
	}
	if out := r.want(exitOK, "lookup", "filed@corp.example"); !strings.Contains(out, file+":2") {
		t.Errorf("lookup says\n%s", out)
	}
	r.want(exitFailure, "lookup", "spoilt@corp.example")
	out := r.want(exitOK, "status")
	if !strings.Contains(out, file+": 2 entries, read ") || !strings.Contains(out, "1 line does not count") ||
		!strings.Contains(out, `line 3: "\"spoilt@corp.example OK" has a quote that is not closed`) {
		t.Errorf("status says\n%s", out)
	}
	all := r.findings(false)
	for name, value := range map[string]string{"warning:accept-line-invalid": file + ", line 3: ",
		"ok:accept-file": file + ": 2 entries, 1 of them whole domains"} {
		if found := named(all, name); len(found) != 1 || !strings.Contains(found[0].Text, value) {
			t.Errorf("check finds %+v, want %s with %q", all, name, value)
		}
	}

	r.write("new", "other@corp.example OK\n")
	if err := os.Rename(filepath.Join(r.dir, "new"), file); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "reload") // reads it at once; without that it takes two looks
	r.want(exitOK, "lookup", "other@corp.example")
	r.want(exitFailure, "lookup", "filed@corp.example")
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "reload") // takes the last good copy over
	if files := r.status().AcceptFiles; len(files) != 1 || files[0].Entries != 1 ||
		!strings.HasSuffix(files[0].Trouble, "it contains no address") {
		t.Errorf("status says %+v", files)
	}
	r.want(exitOK, "lookup", "other@corp.example")
	if body := r.scrape(address); !strings.Contains(body, "rcpt_milter_accept_file_failing{file=\""+file+"\"} 1\n") ||
		!strings.Contains(body, "rcpt_milter_accept_file_entries{file=\""+file+"\"} 1\n") {
		t.Errorf("the metrics say\n%s", body)
	}
	r.want(exitFailure, "status")
	// A missing file does not keep other changes from taking effect.
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "reload")
	r.want(exitOK, "lookup", "other@corp.example")
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	d.stop()
	// The last good copy is there at the next start as well.
	r.serve().stop()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.want(exitNotReachable, "status") // reads the copy, too
	if out := r.want(exitFailure, "check"); !strings.Contains(out, "its last good copy stays in effect") {
		t.Errorf("check says\n%s", out)
	}
	d = r.serve()
	r.want(exitOK, "lookup", "other@corp.example")
	if files := r.status().AcceptFiles; len(files) != 1 || !strings.Contains(files[0].Trouble, "no such file") {
		t.Errorf("status says %+v", files)
	}
	r.want(exitTemporary, "status") // the file may have changed before it went
	d.stop()
	copies, err := filepath.Glob(filepath.Join(r.dir, "store", "accept-files", "*"))
	if err != nil || len(copies) != 1 || os.Truncate(copies[0], 100) != nil {
		t.Fatalf("copies %q, %v", copies, err)
	}
	if out := r.want(exitFailure, "check"); !strings.Contains(out, "the daemon will not start") ||
		strings.Contains(out, "stays in effect") {
		t.Errorf("check of a damaged copy says\n%s", out)
	}
	if err := os.RemoveAll(filepath.Join(r.dir, "store", "accept-files")); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"serve", "check"} {
		if status, _, trouble := r.command(command); status != exitConfig || !strings.Contains(trouble,
			"accept_files[0]: the accept file "+file+" does not exist") {
			t.Errorf("%s without the file and without a copy: %d, %s", command, status, trouble)
		}
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, trouble := r.command("serve"); status != exitConfig || !strings.Contains(trouble,
		"accept_files: "+file+": it contains no address") {
		t.Errorf("serve with an empty file and without a copy: %d, %s", status, trouble)
	}
}

// TestShrunkFileOverARestart: a restart applies no file that lost most of its entries; a reload does.
func TestShrunkFileOverARestart(t *testing.T) {
	r, file := filedRig(t)
	r.enforce("alias.example")
	var many strings.Builder
	for i := range 150 {
		fmt.Fprintf(&many, "u%d@corp.example OK\n", i)
	}
	r.write("table", many.String()+"@alias.example @corp.example\n")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop()
	r.write("table", "new@corp.example OK\nnew@alias.example OK\n")
	if found := named(r.findings(false), "warning:accept-file-held"); len(found) != 1 {
		t.Errorf("check finds %+v", found)
	}
	d = r.serve()
	for _, recipient := range []string{"u149@corp.example", "new@corp.example", "u149@alias.example"} {
		r.want(exitOK, "lookup", recipient)
	}
	if files := r.status().AcceptFiles; len(files) != 1 || !strings.Contains(files[0].Trouble, "it has 2 entries") {
		t.Errorf("status says %+v", files)
	}
	if out := r.want(exitOK, "reload"); out != "The configuration is in effect.\nAccept file "+file+
		" has 2 entries now (before: 153).\n" {
		t.Errorf("reload says\n%s", out)
	}
	r.want(exitFailure, "lookup", "u149@corp.example")
	d.stop()
	d = r.serve()
	r.want(exitFailure, "lookup", "u149@corp.example")
	r.want(exitOK, "lookup", "new@corp.example")
	d.stop()

	// A damaged copy: the file may have shrunk before, so no recipient is unknown.
	copies, err := filepath.Glob(filepath.Join(r.dir, "store", "accept-files", "*"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("copies %q, %v", copies, err)
	}
	if info, err := os.Stat(copies[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Truncate(copies[0], 100); err != nil {
		t.Fatal(err)
	}
	if found := named(r.findings(false), "warning:accept-file-doubt"); len(found) != 1 {
		t.Errorf("check finds %+v", found)
	}
	r.serve()
	r.want(exitOK, "lookup", "new@corp.example")
	if out := r.want(exitTemporary, "lookup", "u149@corp.example"); !strings.Contains(out, file) {
		t.Errorf("lookup says\n%s", out)
	}
	s := r.status()
	if s.State != control.Stale || len(s.AcceptFiles) != 1 || s.AcceptFiles[0].State != control.Stale ||
		s.AcceptFiles[0].Doubt == "" {
		t.Errorf("status says %+v", s)
	}
	for _, view := range [][]string{{"status"}, {"status", "--nagios"}} {
		out := strings.Join(strings.Fields(r.want(exitTemporary, view...)), " ")
		if !strings.Contains(out, "it may lack entries: unknown recipients of all domains get 451") {
			t.Errorf("%q says\n%s", view, out)
		}
	}
	r.want(exitOK, "reload")
	r.want(exitFailure, "lookup", "u149@corp.example")
	r.want(exitOK, "status")
}

// TestSuspiciousLines: status shows lines that count, but probably not as intended.
func TestSuspiciousLines(t *testing.T) {
	r := newRig(t)
	file := r.write("table", "ann@corp.example OK\n@report.example REJECT\nx@y@corp.example OK\n")
	r.edit("removal_grace: 0s", "removal_grace: 0s\naccept_files: ["+file+"]")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	got := r.status().AcceptFiles[0]
	if got.Suspicious != 2 || len(got.SuspiciousLines) != 2 || got.Unread != 0 ||
		!strings.HasPrefix(got.SuspiciousLines[0], "line 2: ") ||
		!strings.HasPrefix(got.SuspiciousLines[1], "line 3: ") {
		t.Errorf("accept file %+v", got)
	}
	if out := r.want(exitOK, "status"); !strings.Contains(out, "2 lines count, but probably not as intended") ||
		!strings.Contains(out, `"@report.example" is accepted, although its value "REJECT"`) {
		t.Errorf("status says\n%s", out)
	}
}
