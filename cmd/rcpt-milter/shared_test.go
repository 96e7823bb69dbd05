package main

import (
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// TestSharedDomains: an alias that goes waits while another directory may have it; a reload
// that gives each its own mail domains ends that for the next one.
func TestSharedDomains(t *testing.T) {
	r := newRig(t)
	_, lines := r.withLab()
	ann := r.addUser("ann", "smtp:ann@corp.example", "smtp:ann2@corp.example", "smtp:ann3@corp.example")
	d := r.serve()
	defer d.stop()
	r.want(exitOK, "sync", "--wait")
	keep := func(addresses ...string) {
		t.Helper()
		if err := r.ad.Modify(ann, adsim.Set("proxyAddresses", addresses...)); err != nil {
			t.Fatal(err)
		}
		r.want(exitOK, "sync", "--wait")
	}
	keep("smtp:ann@corp.example", "smtp:ann3@corp.example")
	r.want(exitOK, "lookup", "ann2@corp.example")
	got := rows[control.HeldRemoval](r, exitOK, "removals")
	if len(got) != 1 || got[0].WaitsFor != control.WaitsReplication || got[0].NotBefore.IsZero() {
		t.Errorf("removals gives %+v", got)
	}
	r.edit(lines, lines+"    domains: [lab.example]\n")
	r.want(exitOK, "reload")
	r.want(exitOK, "sync", "--wait") // a full pass that a change meets would leave ann2 to the next one
	keep("smtp:ann@corp.example")
	r.want(exitFailure, "lookup", "ann3@corp.example")
	r.want(exitOK, "lookup", "ann2@corp.example")
}
