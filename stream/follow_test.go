package stream

import (
	"testing"
	"time"

	"rcpt-milter/mirror"
	"rcpt-milter/testenv/adsim"
)

func TestEdgeFollowsHub(t *testing.T) {
	e, d := newEngine(t, nil), newDomain(t)
	d.fill(20)
	boss := d.add("boss", "boss@corp.example", "ceo@corp.example")
	hub := newHub(t, "hub", d, e.client("hub")).start()
	edge := newEdge(t, "edge", e.client("edge")).start()
	equal(t, hub, edge)
	if !edge.has("ceo@corp.example") || edge.has("nobody@corp.example") {
		t.Error("the answers of the edge differ from the directory")
	}
	d.add("new", "new@corp.example")
	eventually(t, "addition arrives", func() bool { return edge.has("new@corp.example") })
	if err := d.d.Modify(boss, adsim.RemoveValues("proxyAddresses", "smtp:ceo@corp.example")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "removal arrives", func() bool { return !edge.has("ceo@corp.example") })
	equal(t, hub, edge)
	h := edge.client.Hub("corp")
	if h.Name != "hub" || h.Controller == "" || h.Version != "test" || !h.Known || h.Digest != hub.digest() {
		t.Errorf("hub %+v", h)
	}
	if s := hub.publisher.Status(); !s.Leading || s.Holder != "hub" || s.LastError != nil || s.Sequence == 0 {
		t.Errorf("publisher %+v", s)
	}
	if n := edge.mirror.Status().Full.Number; n != 1 {
		t.Errorf("last full pass is %d, want the first", n)
	}
}

// TestAgeIsThatOfTheHub moves clocks. The age is the time since the hub last read its directory.
func TestAgeIsThatOfTheHub(t *testing.T) {
	e, d := newEngine(t, nil), newDomain(t)
	d.fill(3)
	hub := newHub(t, "hub", d, e.client("hub")).start()
	edge := newEdge(t, "edge", e.client("edge")).start()
	equal(t, hub, edge)
	d.server.Close()
	hub.offset.Store(int64(20 * time.Minute))
	eventually(t, "edge is late with its hub", func() bool { s, _ := edge.mirror.State(); return s == mirror.Late })
	hub.offset.Store(int64(5 * time.Hour))
	eventually(t, "edge is stale with its hub", func() bool { s, _ := edge.mirror.State(); return s == mirror.Stale })
	if !edge.has("p1@corp.example") {
		t.Error("a stale edge forgot an address")
	}
}
