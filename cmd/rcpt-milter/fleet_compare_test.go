package main

import (
	"strings"
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// TestFleetCompare: compare at an edge compares its index with what the hub has published.
func TestFleetCompare(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n), newEdge(t, n)
	var users []adsim.GUID
	for _, name := range []string{"ann", "bob", "eve"} {
		users = append(users, hub.addUser(name, "smtp:"+name+"@corp.example", "smtp:"+name+"2@corp.example"))
	}
	hub.edit("poll: 100ms", "poll: 100ms\n    removal_guard: {max: 0}") // it publishes the removals
	d := hub.serve()
	edge.edit("poll: 100ms", "poll: 100ms\n    removal_guard: {max: 1}")
	edge.serve()
	edge.await(exitOK, "jane@corp.example")
	edge.await(exitFailure, "nobody@corp.example")
	if out := edge.want(exitOK, "compare"); !strings.Contains(out,
		"equal, with 8 addresses of 4 objects read from hub "+edge.status().Directories[0].Stream.Hub) {
		t.Errorf("compare of an equal index:\n%s", out)
	}
	hub.delete(users...)
	edge.waitFor("the removals are held", func(s control.Status) bool { return s.Directories[0].HeldRemovals > 0 })
	got := edge.compare(exitFailure)
	if len(got.Differences) == 0 {
		t.Error("compare reports no held removal")
	}
	for _, difference := range got.Differences {
		if difference.Cause != control.CauseHeld || !difference.InIndex {
			t.Errorf("compare with held removals: %+v", difference)
		}
	}
	if out := edge.want(exitFailure, "compare"); !strings.Contains(out, "object ") {
		t.Errorf("compare names no object:\n%s", out)
	}
	d.stop()
	n.Shutdown()
	n.WaitForShutdown()
	status, out, trouble := edge.command("compare")
	if status != exitTemporary || !strings.Contains(out+trouble, "no connection to the engine") {
		t.Errorf("compare without an engine: exit status %d\n%s%s", status, out, trouble)
	}
}
