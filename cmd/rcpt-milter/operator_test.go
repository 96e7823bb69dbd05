package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestOperatorsAreLogged: what was done to a daemon, and by which account.
func TestOperatorsAreLogged(t *testing.T) {
	r := newRig(t)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "sync", "--full", "--wait")
	r.want(exitOK, "removals", "approve", "--directory", "corp")
	r.want(exitOK, "removals", "discard")
	r.want(exitOK, "compare")
	r.want(exitOK, "lookup", "jane@corp.example")
	r.edit("report.example: report", "report.example: enforce")
	r.want(exitOK, "reload")
	r.edit("report.example: enforce", "report.example: maybe")
	r.want(exitConfig, "reload")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(d.log.String(), "signal=SIGHUP") {
	}
	uid := fmt.Sprintf("uid=%d", os.Getuid())
	var got []string
	for _, line := range regexp.MustCompile(`level=INFO msg="operator action" .*`).FindAllString(d.log.String(), -1) {
		line = regexp.MustCompile(` user=\S+`).ReplaceAllString(line, "")
		got = append(got, strings.TrimPrefix(line, `level=INFO msg="operator action" `))
	}
	want := []string{
		"action=sync " + uid + " full=false wait=true", "action=sync " + uid + " full=true wait=true",
		"action=approve " + uid + " directory=corp removed=0", `action=discard ` + uid + ` directory="" objects=0`,
		`action=compare ` + uid + ` directory="" differences=0`,
		"action=reload " + uid + " changed=[domains] " +
			"restart_needed=[]", "action=reload " + uid + " changed=[] restart_needed=[] error=",
		"action=reload signal=SIGHUP changed=[] restart_needed=[] error=",
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d is %s\nwant %s", i, got[i], want[i])
		}
	}
}

// TestApprovalIsLogged: with the directory, the pass and the number of addresses.
func TestApprovalIsLogged(t *testing.T) {
	for command, want := range map[string]string{
		"approve": `directory=corp pass=\d+ removed=2 waiting=0`, "discard": `directory=corp objects=1`,
	} {
		r := newRig(t)
		r.edit("poll: 100ms", "poll: 100ms\n    removal_guard: {max: 1}")
		user := r.addUser("leaver", "smtp:leaver@corp.example", "smtp:left@corp.example")
		d := r.serve()
		r.want(exitOK, "sync", "--wait")
		if err := r.ad.Delete(user); err != nil {
			t.Fatal(err)
		}
		r.wantHeld("corp")
		r.want(exitOK, "removals", command)
		line := regexp.MustCompile(`msg="operator action" action=` + command + fmt.Sprintf(` uid=%d( user=\S+)? `,
			os.Getuid()) + want + "\n")
		d.log.count(`msg="operator action" action=`+command, 1)
		if !line.MatchString(d.log.String()) {
			t.Errorf("%s: no %s in\n%s", command, line, d.log)
		}
	}
}
