package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// waitFor asks until what is asked about is so.
func (r *rig) waitFor(what string, so func(control.Status) bool) control.Status {
	r.t.Helper()
	for late := time.Now().Add(patience); ; {
		s := r.status()
		if so(s) {
			return s
		}
		if time.Now().After(late) {
			r.t.Fatalf("never: %s; status %+v", what, s)
		}
	}
}

// Who is known to another controller only is accepted, and is in the index soon after.
// What only inside senders may write to stays unknown to others.
func TestConfirmThroughTheDaemon(t *testing.T) {
	r := newRig(t, "confirm: {enabled: true, timeout: 5s, per_second: 100}")
	second := r.ad.NewReplica("dc2", 50_000)
	server := adsim.StartTest(t, second, adsim.ServerConfig{})
	ca, err := server.WriteCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	both, first := r.write("both.pem", r.read(ca)+r.read(r.ca)), r.server.URL()
	r.edit(r.ca, both)
	r.edit("urls: ["+first+"]", "urls: ["+first+", "+server.URL()+"]\n    internal_only: refuse")
	r.edit("poll: 100ms", "poll: 1h") // only a hit can start a pass
	for name, attrs := range map[string]adsim.Attrs{
		"new":    {"proxyAddresses": {"smtp:new@corp.example", "smtp:new@report.example"}},
		"inside": {"proxyAddresses": {"smtp:inside@corp.example"}, "msExchRequireAuthToSendTo": {"TRUE"}},
	} {
		if _, err := second.Add(adsim.User, "CN="+name+",CN=Users,"+base, attrs); err != nil {
			t.Fatal(err)
		}
	}
	r.serve()
	r.waitFor("the second controller is asked", func(s control.Status) bool {
		return s.Confirm != nil && s.Confirm.Directories[0].DomainController == "dc2.corp.example"
	})
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "inside@corp.example", "550")
	session.want(t, "nobody@corp.example", "550")
	if got := r.lookup(exitOK, "inside@corp.example", "--authenticated"); got.Verdict != "confirmed" || got.Rule != 10 {
		t.Errorf("lookup --authenticated gives %+v", got)
	}
	r.ad.ReplicateFrom(second, 0) // the first controller hears of it; the next pass is an hour away
	session.want(t, "new@corp.example", "continue")
	s := r.waitFor("the address is in the index",
		func(s control.Status) bool { return s.Domains["report.example"] == 1 })
	if c := s.Confirm; c.Found != 2 || c.NotFound != 1 || c.Remembered != 1 || c.Unanswered+c.OverBudget != 0 ||
		s.Decisions["confirmed"] != 1 {
		t.Errorf("status: %+v, decisions %v", c, s.Decisions)
	}
	if out := r.want(exitOK, "lookup", "new@corp.example"); !strings.Contains(out, "verdict known") {
		t.Errorf("lookup after the pass:\n%s", out)
	}

	// A reload that changes nothing about it keeps the connection; one that does, the counts.
	connections := server.Stats().Connections
	r.edit("level: debug", "level: info")
	r.want(exitOK, "reload")
	session.want(t, "someone@corp.example", "550")
	if n := server.Stats().Connections; n != connections {
		t.Errorf("%d connections after a reload, %d before", n, connections)
	}
	r.edit("timeout: 5s", "timeout: 4s")
	r.want(exitOK, "reload")
	r.waitFor("asked again after the reload",
		func(s control.Status) bool { return s.Confirm.Directories[0].DomainController == "dc2.corp.example" })
	session.want(t, "nobody-else@corp.example", "550")
	if c := r.status().Confirm; c.NotFound != 3 {
		t.Errorf("status after the reload: %+v", c)
	}
	r.edit("confirm: {enabled: true", "confirm: {enabled: false")
	r.want(exitOK, "reload")
	if c := r.status().Confirm; c != nil {
		t.Errorf("status when it is switched off: %+v", c)
	}
}

// The limit on guessing holds across sessions and a reload. Status, metrics and lookup show
// it, and a lookup does not count.
func TestHarvestThroughTheDaemon(t *testing.T) {
	r := newRig(t, "harvest: {unknown: 5, ratio: 0.5}")
	address := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+address)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	ask := func(client, recipient string) string {
		t.Helper()
		session, err := dialMilter(r.milterSocket())
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		reply, err := session.askAs("{client_addr}\x00"+client+"\x00{mail_addr}\x00from@client.example\x00", recipient)
		if err != nil {
			t.Fatal(err)
		}
		return reply[:min(8, len(reply))]
	}
	ask("192.0.2.1", "jane@corp.example")
	for i := range 4 {
		if got := ask("192.0.2.2", fmt.Sprintf("guess%d@corp.example", i)); got != "550 5.1." {
			t.Fatalf("guess %d: %q", i, got)
		}
	}
	for i := range 20 { // asks, and is not charged
		r.want(exitFailure, "lookup", "--client", "192.0.2.9", fmt.Sprintf("look%d@corp.example", i))
	}
	if out := r.want(exitFailure, "lookup", "--client", "192.0.2.9", "look@corp.example"); !strings.Contains(out,
		"192.0.2.0/24 has asked about 5 recipients, of which 4 were rejected") {
		t.Errorf("lookup:\n%s", out)
	}
	for i := range 9 {
		ask("192.0.2.3", fmt.Sprintf("report%d@report.example", i))
	}
	ask("192.0.2.3", "last@corp.example")
	for range 2 {
		if got := ask("192.0.2.4", "more@corp.example"); got != "421 4.7." {
			t.Errorf("over the limit: %q", got)
		}
		if got := ask("198.51.100.1", "more@corp.example"); got != "550 5.1." {
			t.Errorf("another network: %q", got)
		}
		r.edit("ratio: 0.5", "ratio: 0.6")
		r.want(exitOK, "reload")
		r.edit("ratio: 0.6", "ratio: 0.5")
	}
	if out := r.want(exitTemporary, "lookup", "--client", "192.0.2.9", "look@corp.example"); !strings.Contains(out,
		"row 11") ||
		!strings.Contains(out, "192.0.2.0/24 asked about 5 that were rejected, until ") {
		t.Errorf("lookup:\n%s", out)
	}
	s := r.status()
	if h := s.Harvest; h == nil || s.HarvestClients != 1 || h.Networks != 2 || len(h.Limited) != 1 ||
		h.Limited[0].Network != "192.0.2.0/24" || h.Octets == 0 {
		t.Errorf("status: %+v", h)
	}
	if s.Harvest.Mode != "enforce" || s.Harvest.WouldLimit != 0 {
		t.Errorf("status of a limit that answers: %+v", s.Harvest)
	}
	if body := r.scrape(address); !strings.Contains(body, "\nrcpt_milter_harvest_clients 1\n") {
		t.Errorf("no harvest clients in\n%s", body)
	}
	r.edit("unknown: 5", "unknown: 0")
	r.want(exitOK, "reload")
	if got := ask("192.0.2.4", "more@corp.example"); got != "550 5.1." {
		t.Errorf("switched off: %q", got)
	}
	var answer control.LookupAnswer
	if err := json.Unmarshal([]byte(r.want(exitFailure, "lookup", "--json", "--client", "192.0.2.9",
		"look@corp.example")), &answer); err != nil || answer.Harvest != nil {
		t.Errorf("lookup --json: %v, %+v", err, answer.Harvest)
	}
}

// TestHarvestByDefault: without a setting the limit counts and shows what it would have deferred,
// and defers nothing. After harvest.mode: enforce it does, from what it has counted.
func TestHarvestByDefault(t *testing.T) {
	r := newRig(t, "nat64: [2001:db8:64::/96]")
	address := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+address)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	guess := func(n int) string {
		t.Helper()
		session, err := dialMilter(r.milterSocket())
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		reply, err := session.askAs(
			"{client_addr}\x00IPv6:2001:db8:64::192.0.2.1\x00{mail_addr}\x00from@client.example\x00",
			fmt.Sprintf("guess%d@corp.example", n))
		if err != nil {
			t.Fatal(err)
		}
		return reply[:min(8, len(reply))]
	}
	for n := range 30 {
		if got := guess(n); got != "550 5.1." {
			t.Errorf("guess %d without a setting: %q", n, got)
		}
	}
	s := r.status()
	if h := s.Harvest; h == nil || h.Mode != "report" || h.WouldLimit != 10 || s.HarvestClients != 1 ||
		len(h.Limited) != 1 || h.Limited[0].Network != "192.0.2.0/24" {
		t.Errorf("status: %+v", h)
	}
	if out := r.want(exitOK, "status"); !strings.Contains(out,
		"in mode report: 10 recipients would have been deferred") {
		t.Errorf("status:\n%s", out)
	}
	if body := r.scrape(address); !strings.Contains(body, "\nrcpt_milter_harvest_would_limit_total 10\n") {
		t.Errorf("no count in\n%s", body)
	}
	if out := r.want(exitOK, "report"); !strings.Contains(out, "10 of them would have been deferred") {
		t.Errorf("report:\n%s", out)
	}
	var report control.Report
	if err := json.Unmarshal([]byte(r.want(exitOK, "report", "--json")), &report); err != nil ||
		report.WouldLimit != 10 || len(report.Verdicts) != 1 {
		t.Errorf("report --json: %v, %d, %v", err, report.WouldLimit, report.Verdicts)
	}
	r.edit("nat64:", "harvest: {mode: enforce}\nnat64:")
	r.want(exitOK, "reload")
	if got := guess(31); got != "421 4.7." {
		t.Errorf("after mode enforce: %q", got)
	}
}
