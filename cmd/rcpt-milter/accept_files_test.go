package main

import (
	"encoding/json"
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
	if status, _, trouble := r.command("serve"); status != exitConfig || !strings.Contains(trouble,
		"accept_files: "+file+": it contains no address") {
		t.Errorf("serve with an empty file: %d, %s", status, trouble)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"serve", "check"} {
		if status, _, trouble := r.command(command); status != exitConfig || !strings.Contains(trouble,
			"accept_files[0]: the accept file "+file+" does not exist") {
			t.Errorf("%s without the file: %d, %s", command, status, trouble)
		}
	}
}
