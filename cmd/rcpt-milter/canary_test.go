package main

import (
	"strings"
	"testing"

	"rcpt-milter/control"
)

// TestCanaries: losing one that must be accepted holds removals back; one that must be
// refused and is known raises an alarm, and is logged once.
func TestCanaries(t *testing.T) {
	r := newRig(t, "canaries: {accept: [CEO@corp.example, typo@corp.example], refuse: [No-Such-User@corp.example]}")
	ceo := r.addUser("ceo", "smtp:ceo@corp.example")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "status")
	if s := r.status(); s.Alarms == nil || len(s.Alarms) != 0 {
		t.Errorf("alarms on a good day: %q", s.Alarms)
	}
	if !strings.Contains(d.log.String(), `canary inactive" address=typo@corp.example`) ||
		strings.Contains(d.log.String(), "address=ceo@corp.example") {
		t.Errorf("the log does not tell of the canary that is not there, and of no other:\n%s", d.log)
	}
	bad := r.addUser("bad", "smtp:no-such-user@corp.example")
	r.want(exitOK, "sync", "--wait")
	for range 3 {
		r.want(exitOK, "sync", "--wait")
	}
	out := r.want(exitFailure, "status")
	if want := "alarm               no-such-user@corp.example is known, which canaries.refuse names: " +
		"CN=bad,CN=Users," + base + " of directory corp has it\n"; !strings.Contains(out, want) {
		t.Errorf("status has no %q:\n%s", want, out)
	}
	if s := r.status(); len(s.Alarms) != 1 || s.State != control.Fresh {
		t.Errorf("status: state %s, alarms %q", s.State, s.Alarms)
	}
	r.delete(bad)
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "status")
	for text, want := range map[string]int{"canary of canaries.refuse is known": 1,
		"canary of canaries.refuse is no longer known": 1} {
		if got := strings.Count(d.log.String(), text); got != want {
			t.Errorf("%d lines of log say that %s, want %d:\n%s", got, text, want, d.log)
		}
	}
	r.delete(ceo)
	r.want(exitOK, "sync", "--wait")
	if out := r.want(exitFailure, "status"); !strings.Contains(out,
		"canary ceo@corp.example (canaries.accept) would be removed") {
		t.Errorf("status says\n%s", out)
	}
	r.want(exitOK, "lookup", "ceo@corp.example")
	r.want(exitOK, "removals", "approve")
	r.want(exitFailure, "lookup", "ceo@corp.example")
}
