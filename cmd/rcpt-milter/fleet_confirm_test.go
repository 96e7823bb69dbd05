package main

import (
	"strings"
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// confirming makes a daemon ask for recipients that its index does not have.
const confirming = "confirm: {enabled: true, timeout: 5s, per_second: 100}"

// TestFleetConfirm: a mailbox that the hub has not read yet is confirmed by the hub's controller through
// the engine, and only for those who may write to it.
func TestFleetConfirm(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n, confirming), newEdge(t, n, confirming)
	hub.edit("poll: 100ms", "poll: 1h\n    internal_only: refuse") // only a hit can start a pass
	hub.serve()
	edge.serve()
	edge.await(exitFailure, "nobody@corp.example")
	s := edge.waitFor("the hub is asked", func(s control.Status) bool {
		return s.Confirm != nil && s.Confirm.Directories[0].DomainController != ""
	})
	if at := s.Confirm.Directories[0]; at.DomainController != "hub "+s.Directories[0].Stream.Hub || at.Followed {
		t.Errorf("confirm in status: %+v", at)
	}
	// A hit starts a pass of the hub, whose next one is an hour away. Each mailbox is made when the pass of
	// the one before has arrived: a pass that reads it first would answer in place of the hub.
	known := int64(2)
	add := func(name string, attrs adsim.Attrs) {
		t.Helper()
		attrs["proxyAddresses"] = []string{"smtp:" + name + "@corp.example"}
		if _, err := hub.ad.Add(adsim.User, "CN="+name+",CN=Users,"+base, attrs); err != nil {
			t.Fatal(err)
		}
		if got := edge.status().Domains["corp.example"]; got != known {
			t.Fatalf("the index of the edge has %d addresses before %s, want %d", got, name, known)
		}
	}
	indexed := func() {
		t.Helper()
		known++
		edge.waitFor("the address is in the index", func(s control.Status) bool {
			return s.Domains["corp.example"] == known
		})
	}
	inside := func() adsim.Attrs { return adsim.Attrs{"msExchRequireAuthToSendTo": {"TRUE"}} }
	session, err := dialMilter(edge.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "nobody-else@corp.example", "550")

	add("inside", inside())
	session.want(t, "inside@corp.example", "550")
	indexed()
	add("within", inside())
	if got := edge.lookup(exitOK, "within@corp.example", "--authenticated"); got.Verdict != "confirmed" {
		t.Errorf("lookup --authenticated gives %+v", got)
	}
	indexed()
	add("new", adsim.Attrs{})
	session.want(t, "new@corp.example", "continue")
	if got := edge.status().Decisions["confirmed"]; got != 1 {
		t.Errorf("%d recipients confirmed, want 1", got)
	}
	indexed()
	if out := edge.want(exitOK, "lookup", "new@corp.example"); !strings.Contains(out, "verdict known") {
		t.Errorf("lookup after the pass of the hub:\n%s", out)
	}
}

// TestFleetConfirmOfOneDirectory: a hub confirms to an edge the addresses of the directory that the edge follows, and
// not those of others, which it does not publish.
func TestFleetConfirmOfOneDirectory(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newRig(t, confirming, "publish: {directories: [corp], stream: {urls: ["+n.url()+"]}}"),
		newEdge(t, n, confirming)
	other, _ := hub.withLab()
	other.addUser("bob", "smtp:bob@corp.example")
	hub.serve()
	edge.serve()
	edge.await(exitOK, "jane@corp.example")
	edge.waitFor("the hub is asked", func(s control.Status) bool {
		return s.Confirm != nil && s.Confirm.Directories[0].DomainController != "" && s.State == control.Fresh
	})
	hub.await(exitOK, "bob@corp.example")
	if got := edge.lookup(exitFailure, "bob@corp.example"); got.Verdict != "unknown" {
		t.Errorf("an address of another directory at the edge: %+v", got)
	}
	if s := edge.status(); s.Confirm.NotFound != 1 {
		t.Errorf("confirm at the edge: %+v", s.Confirm)
	}
}

// TestFleetConfirmWithoutHub: a hub that does not answer makes no recipient of a fresh index known, and
// an edge whose index is stale rejects none.
func TestFleetConfirmWithoutHub(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n, confirming), newEdge(t, n, confirming, aging)
	d := hub.serve()
	edge.serve()
	edge.await(exitFailure, "nobody@corp.example")
	d.stop()
	edge.awaitState(control.Stale)
	session, err := dialMilter(edge.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "nobody@corp.example", "451")
	session.want(t, "jane@corp.example", "continue")
}
