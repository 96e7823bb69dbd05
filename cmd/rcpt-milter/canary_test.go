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
	if d.log.count(`canary inactive" address=typo@corp.example`, 1) == 0 ||
		strings.Contains(d.log.String(), "address=ceo@corp.example") {
		t.Errorf("the log does not tell of the canary that is not there, and of no other:\n%s", d.log)
	}
	bad := r.addUser("bad", "smtp:no-such-user@corp.example")
	r.want(exitOK, "sync", "--wait")
	for range 3 {
		r.want(exitOK, "sync", "--wait")
	}
	r.want(exitFailure, "status")
	if s := r.status(); len(s.Alarms) != 1 || s.State != control.Fresh ||
		!strings.HasPrefix(s.Alarms[0], "no-such-user@corp.example ") || !strings.Contains(s.Alarms[0],
		"CN=bad,CN=Users,"+base) {
		t.Errorf("status: state %s, alarms %q", s.State, s.Alarms)
	}
	r.delete(bad)
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "status")
	for text, want := range map[string]int{"canary of canaries.refuse is known": 1,
		"canary of canaries.refuse is no longer known": 1} {
		if got := d.log.count(text, want); got != want {
			t.Errorf("%d lines of log say that %s, want %d:\n%s", got, text, want, d.log)
		}
	}
	r.delete(ceo)
	r.want(exitOK, "sync", "--wait")
	r.want(exitFailure, "status")
	if d := r.status().Directories[0]; d.HeldRemovals != 1 || !strings.Contains(d.HoldReason, "ceo@corp.example") {
		t.Errorf("%d removals held: %s", d.HeldRemovals, d.HoldReason)
	}
	r.want(exitOK, "lookup", "ceo@corp.example")
	r.want(exitOK, "removals", "approve")
	r.want(exitFailure, "lookup", "ceo@corp.example")
}

// TestCanariesOfAnAlias: a canary in a domain alias is the same local part in the target.
func TestCanariesOfAnAlias(t *testing.T) {
	for name, lines := range map[string][]string{
		"by the configuration": {"domain_aliases: {alias.example: report.example, report.example: corp.example}"},
		"by a file and the configuration": {"domain_aliases: {report.example: corp.example}",
			"@alias.example @report.example\n"},
		"by a file": {"", "@alias.example @report.example\n@report.example @other.example, @corp.example\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "canaries: {accept: [ceo@alias.example], refuse: [no-such-user@alias.example]}", lines[0])
			r.enforce("alias.example", "other.example")
			for _, text := range lines[1:] {
				r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept_files: ["+r.write("virtual", text)+"]\n")
			}
			r.testCanariesOfAnAlias()
		})
	}
}

func (r *rig) testCanariesOfAnAlias() {
	r.t.Helper()
	ceo := r.addUser("ceo", "smtp:ceo@corp.example")
	r.addUser("own", "smtp:own@other.example")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "ceo@alias.example")
	if s := r.status(); len(s.Alarms) != 0 || strings.Contains(d.log.String(), "canary inactive") {
		r.t.Errorf("on a good day: alarms %q, log\n%s", s.Alarms, d.log)
	}
	r.delete(ceo)
	r.want(exitOK, "sync", "--wait")
	if d := r.status().Directories[0]; d.HeldRemovals != 1 || !strings.Contains(d.HoldReason, "ceo@corp.example") {
		r.t.Errorf("%d removals held: %s", d.HeldRemovals, d.HoldReason)
	}
	r.want(exitOK, "lookup", "ceo@alias.example")
	bad := r.addUser("bad", "smtp:no-such-user@corp.example")
	r.want(exitOK, "sync", "--wait")
	if s := r.status(); len(s.Alarms) != 1 || !strings.HasPrefix(s.Alarms[0], "no-such-user@alias.example ") ||
		!strings.Contains(s.Alarms[0], "CN=bad,CN=Users,"+base) {
		r.t.Errorf("alarms %q", s.Alarms)
	}
	r.delete(bad)
	r.want(exitOK, "removals", "approve")
	r.want(exitOK, "sync", "--wait")
	r.want(exitFailure, "lookup", "ceo@alias.example")
}
