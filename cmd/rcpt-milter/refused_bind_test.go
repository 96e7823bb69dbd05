package main

import (
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// TestNothingBindsAfterARefusal: no command and no reload tries a refused password again.
func TestNothingBindsAfterARefusal(t *testing.T) {
	r := newRig(t, "confirm: {enabled: true}")
	r.edit("poll: 100ms", "poll: 100ms\n    notify: true")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	for !r.status().Directories[0].Notify {
	}
	r.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	r.server.CutConnections()
	for !strings.Contains(d.log.String(), "bind rejected; not trying again") {
	}
	for i := range 3 {
		r.edit(fmt.Sprintf("poll: %dms", 100+i), fmt.Sprintf("poll: %dms", 101+i))
		r.want(exitOK, "reload")
		for _, command := range [][]string{{"sync", "--wait"}, {"sync", "--full"}, {"removals", "discard"}, {"compare"},
			{"lookup", "new@corp.example"}} {
			r.command(command...)
		}
	}
	// Two connections may have bound at once before the first answer.
	if all := r.server.Stats().FailedBinds; all == 0 || all > 2 {
		t.Errorf("%d failed logons after the password was changed", all)
	}
	if got := r.status().Directories[0].LastError; !strings.Contains(got, "rejected: the name or the password") {
		t.Errorf("last error: %q", got)
	}
	r.server.SetFaults(adsim.Faults{})
	r.server.SetPassword("another")
	r.write("password", "another\n")
	for r.status().Directories[0].LastError != "" {
	}
	r.want(exitOK, "sync", "--wait")
}

// TestCheckLiveTriesOnce: a wrong password is tried at one controller only.
func TestCheckLiveTriesOnce(t *testing.T) {
	r := newRig(t)
	r.edit("urls: ["+r.server.URL(), "urls: ["+r.server.URL()+", "+strings.Replace(r.server.URL(), "127.0.0.1",
		"localhost", 1)+", "+r.server.StartTLSURL())
	r.write("password", "wrong")
	out := r.want(exitFailure, "check", "--live")
	if got := r.server.Stats().FailedBinds; got != 1 {
		t.Errorf("%d failed logons\n%s", got, out)
	}
	if !strings.Contains(out, "no other domain controller is tried") {
		t.Errorf("check --live says\n%s", out)
	}
}
