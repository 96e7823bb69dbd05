package main

import (
	"strings"
	"testing"

	"rcpt-milter/daemon"
)

// wantFinding checks that check --live has one finding of a name, with a level and words.
func (r *rig) wantFinding(what, name string, level daemon.Level, words string) {
	r.t.Helper()
	var found []daemon.Finding
	for _, f := range r.findings(true) {
		if f.Name == name {
			found = append(found, f)
		}
	}
	if len(found) != 1 || found[0].Level != level || !strings.Contains(found[0].Text, words) {
		r.t.Errorf("%s: %+v, want one %s with %q", what, found, level, words)
	}
}

// TestCheckLiveOfStreams: check --live at an edge and at a hub looks at the way to the engine.
func TestCheckLiveOfStreams(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n), newEdge(t, n)
	edge.wantFinding("before a hub", "stream", daemon.Problem, "check that a hub publishes it")
	hub.wantFinding("a hub", "publish", daemon.Good, "connected to "+n.url())
	d := hub.serve()
	edge.serve()
	edge.await(exitOK, "jane@corp.example")
	edge.wantFinding("with a hub", "stream", daemon.Good, "publishes it from "+hub.ad.HostName())
	d.stop()
	n.Shutdown()
	n.WaitForShutdown()
	edge.wantFinding("without an engine", "stream", daemon.Problem, "cannot connect to 127.0.0.1:")
	hub.wantFinding("a hub without an engine", "publish", daemon.Problem, "cannot connect to 127.0.0.1:")
}
