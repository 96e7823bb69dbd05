package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/control"
)

// TestOffline: what asks for no daemon is answered from the store that it left, and says
// so; what was not left in good order is not.
func TestOffline(t *testing.T) {
	r := newRig(t)
	for _, command := range [][]string{{"status"}, {"lookup", "jane@corp.example"}, {"report"}} {
		out := r.want(exitNotReachable, command...)
		for _, want := range []string{"the daemon is not reachable at unix:" + r.dir +
			"/run/control.sock: the socket does not exist; is the daemon running",
			"cannot read its store either: store " +
				r.dir + "/store: there is no store"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s without a store says\n%swant %q", command, out, want)
			}
		}
	}
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.addUser("late", "smtp:late@corp.example")
	r.want(exitOK, "sync", "--wait")
	live := r.status()
	d.stop()

	const note = "answering from its store"
	for _, c := range []struct {
		status int
		args   []string
		want   string
	}{
		{exitNotReachable, []string{"status"}, "3 addresses"},
		{exitOK, []string{"lookup", "Jane@corp.example"}, "jane@corp.example"},
		{exitFailure, []string{"lookup", "nobody@corp.example"}, "550 5.1.1"},
		{exitOK, []string{"journal"}, "+ late@corp.example"},
		{exitOK, []string{"report"}, ": 0 recipients"},
		{exitOK, []string{"removals"}, "No removals are held back."},
	} {
		if out := r.want(c.status, c.args...); !strings.Contains(out, c.want) || !strings.Contains(out, note) {
			t.Errorf("%s says\n%swant %q", c.args, out, c.want)
		}
	}
	if got := r.lookup(exitOK, "jane@corp.example"); !got.Offline || got.Verdict != "known" || got.Rule != 6 {
		t.Errorf("lookup gives %+v", got)
	}
	_, stdout, _ := r.command("status", "--json")
	var left control.Status
	if err := json.Unmarshal([]byte(stdout), &left); err != nil {
		t.Fatal(err)
	}
	if !left.Offline || live.Offline || left.Digest != live.Digest ||
		left.Directories[0].USN != live.Directories[0].USN || left.State != control.Fresh {
		t.Errorf("status --json: %+v", left)
	}
	if len(left.Outcomes)+len(left.DomainDecisions) > 0 || len(live.Outcomes) == 0 || len(live.DomainDecisions) == 0 {
		t.Errorf("counts of a stopped daemon %v, %v; before %v", left.Outcomes, left.DomainDecisions, live.Outcomes)
	}
	// Nothing stands in the way of the next start.
	r.serve().stop()
	if err := os.WriteFile(filepath.Join(r.dir, "store", "00042.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := r.want(exitNotReachable, "lookup", "jane@corp.example"); !strings.Contains(out,
		"the store was not closed cleanly; start the daemon to recover it") {
		t.Errorf("lookup after a kill says\n%s", out)
	}
}
