package main

import (
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// TestEdgeConfirms: an edge asks the hub about recipients that its index does not have. An internal-only
// recipient is confirmed for inside senders only.
func TestEdgeConfirms(t *testing.T) {
	hub := newEngineHub(t, "confirm: {enabled: true, timeout: 5s, per_second: 100}")
	second := hub.ad.NewReplica("dc2", 50_000)
	server := adsim.StartTest(t, second, adsim.ServerConfig{})
	ca, err := server.WriteCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	both, first := hub.write("both.pem", hub.read(ca)+hub.read(hub.ca)), hub.server.URL()
	hub.edit(hub.ca, both)
	hub.edit("urls: ["+first+"]", "urls: ["+first+", "+server.URL()+"]\n    internal_only: refuse")
	for name, attrs := range map[string]adsim.Attrs{ // only the second controller has them
		"new":    {"proxyAddresses": {"smtp:new@corp.example"}},
		"inside": {"proxyAddresses": {"smtp:inside@corp.example"}, "msExchRequireAuthToSendTo": {"TRUE"}},
	} {
		if _, err := second.Add(adsim.User, "CN="+name+",CN=Users,"+base, attrs); err != nil {
			t.Fatal(err)
		}
	}
	hub.serve()
	hub.waitFor("the second controller is asked", func(s control.Status) bool {
		return s.Confirm != nil && s.Confirm.Directories[0].DomainController == "dc2.corp.example"
	})
	edge := newJoined(t, hub.join(hub.enrol("mx1")), "confirm: {enabled: true, timeout: 5s, per_second: 100}")
	edge.serve()
	edge.awaitState(control.Fresh)
	edge.waitFor("the hub can be asked", func(s control.Status) bool {
		return s.Confirm != nil && s.Confirm.Directories[0].DomainController != ""
	})
	for _, tt := range []struct {
		name    string
		exit    int
		args    []string
		verdict string
	}{
		{"known to the second controller", exitOK, []string{"new@corp.example"}, "confirmed"},
		{"internal-only, for an outside sender", exitFailure, []string{"inside@corp.example"}, "restricted"},
		{"internal-only, for an inside sender", exitOK, []string{"inside@corp.example", "--authenticated"},
			"confirmed"},
		{"unknown", exitFailure, []string{"nobody@corp.example"}, "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := edge.lookup(tt.exit, tt.args...); string(got.Verdict) != tt.verdict {
				t.Errorf("verdict %s, want %s: %+v", got.Verdict, tt.verdict, got)
			}
		})
	}
	if c := edge.status().Confirm; c.Unanswered != 0 {
		t.Errorf("status: %+v", c)
	}
}
