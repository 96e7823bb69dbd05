package stream

import (
	"testing"
)

// TestSharedName checks that an edge detects another host that reports under its name, and detects that it has
// stopped.
func TestSharedName(t *testing.T) {
	e, d := newEngine(t, nil), newDomain(t)
	d.fill(1)
	hub := newHub(t, "hub", d, e.client("hub")).start()
	eventually(t, "hub publishes", func() bool { return hub.publisher.Status().Sequence > 0 })
	one, two, other := e.client("mx1"), e.client("mx1"), e.client("mx2")
	report := func(clients ...*Client) {
		t.Helper()
		for _, c := range clients {
			if err := c.Report(t.Context(), "corp", EdgeReport{Version: "test", State: "fresh"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	report(one, other, one, other, one)
	report(two, two, two) // a restart
	report(one)           // also the effect of a lost answer
	if one.SharedName("corp") != "" || two.SharedName("corp") != "" || other.SharedName("corp") != "" {
		t.Fatal("a name counts as shared too early")
	}
	for range sharedAfter {
		report(two, one)
	}
	if one.SharedName("corp") != "mx1" || other.SharedName("corp") != "" || one.SharedName("lab") != "" {
		t.Errorf("shared: %q and %q", one.SharedName("corp"), other.SharedName("corp"))
	}
	report(one)
	if name := one.SharedName("corp"); name != "" {
		t.Errorf("%s counts as shared after the other host has gone", name)
	}
}
