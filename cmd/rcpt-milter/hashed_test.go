package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestHashedAddresses: the log has no local part, and lookup tells what to look for in it.
func TestHashedAddresses(t *testing.T) {
	r := newRig(t)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "before@corp.example", "550 5.1.1 <before@corp.example>")
	r.edit("level: debug", "level: debug, addresses: hash")
	r.want(exitOK, "reload")
	session.want(t, "after@corp.example", "550 5.1.1 <after@corp.example>")
	session.want(t, "jane@corp.example", "continue")
	var names []string
	for _, address := range []string{"after@corp.example", "Jane@Corp.Example"} {
		_, stdout, _ := r.command("lookup", address, "--json")
		var answer struct {
			LoggedAs string `json:"logged_as"`
		}
		if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
			t.Fatal(err)
		}
		names = append(names, answer.LoggedAs)
		if n := d.log.count("to="+answer.LoggedAs+" ", 1); answer.LoggedAs == "" || n != 1 {
			t.Errorf("%s is %q in %d lines of the log, want 1", address, answer.LoggedAs, n)
		}
		if _, out, _ := r.command("lookup", address); !strings.Contains(out, answer.LoggedAs) {
			t.Errorf("lookup %s does not tell %q:\n%s", address, answer.LoggedAs, out)
		}
	}
	if log := d.log.String(); !strings.Contains(log, "before@") || strings.Contains(log, "after@") ||
		strings.Contains(log, "jane@") {
		t.Errorf("the log has\n%s", log)
	}
	if d.log.count("<"+names[0]+">: Recipient address rejected", 1) == 0 {
		t.Errorf("no reply with %s in the log:\n%s", names[0], d.log)
	}
}
