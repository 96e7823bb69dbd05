package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// With notify a change is seen though the next poll is an hour away.
func TestNotifyIsWired(t *testing.T) {
	r := newRig(t)
	r.edit("poll: 100ms", "poll: 1h\n    notify: true")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	for !r.status().Directories[0].Notify {
	}
	r.addUser("new", "smtp:new@corp.example")
	for {
		if status, _, _ := r.command("lookup", "new@corp.example"); status == exitOK {
			return
		}
	}
}

// check reads a keytab without a connection, and a new keytab takes effect like a new
// password.
func TestKeytabIsChecked(t *testing.T) {
	r := newRig(t)
	keytab := r.write("svc.keytab", "\x05\x02")
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	bind := regexp.MustCompile(`bind: \{.*\}`).FindString(string(text))
	r.edit(bind, "bind: {keytab: "+keytab+", principal: svc-mail@CORP.EXAMPLE}")
	if found := named(r.findings(false), "problem:keytab"); len(found) != 1 ||
		!strings.Contains(found[0].Text, "svc-mail@CORP.EXAMPLE") {
		t.Errorf("check finds %+v", found)
	}
}
