package main

import (
	"testing"
	"time"

	"rcpt-milter/control"
)

func TestFleetExit(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	edge := func(change func(*control.EdgeStatus)) control.EdgeStatus {
		e := control.EdgeStatus{Name: "mx1", State: control.Fresh, DigestOK: true, Reported: control.Time{Time: now}}
		change(&e)
		return e
	}
	good := edge(func(*control.EdgeStatus) {})
	for _, c := range []struct {
		name    string
		publish []control.PublishStatus
		want    int
	}{
		{"no directory is published", nil, exitFailure},
		{"no edge", []control.PublishStatus{{}}, exitFailure},
		{"good edges", []control.PublishStatus{{Edges: []control.EdgeStatus{good, good}}}, exitOK},
		{"the hub cannot publish", []control.PublishStatus{{LastError: "full", Edges: []control.EdgeStatus{good}}},
			exitFailure},
		{"late", []control.PublishStatus{{Edges: []control.EdgeStatus{good,
			edge(func(e *control.EdgeStatus) { e.State = control.Late })}}}, exitFailure},
		{"differs", []control.PublishStatus{{Edges: []control.EdgeStatus{
			edge(func(e *control.EdgeStatus) { e.DigestOK = false })}}}, exitFailure},
		{"holds removals", []control.PublishStatus{{Edges: []control.EdgeStatus{
			edge(func(e *control.EdgeStatus) { e.Held = 1 })}}}, exitFailure},
		{"fails", []control.PublishStatus{{Edges: []control.EdgeStatus{
			edge(func(e *control.EdgeStatus) { e.LastError = "x" })}}}, exitFailure},
		{"stale after one that differs", []control.PublishStatus{{Edges: []control.EdgeStatus{
			edge(func(e *control.EdgeStatus) { e.DigestOK = false }),
			edge(func(e *control.EdgeStatus) { e.State = control.Stale })}}}, exitTemporary},
		{"not ready", []control.PublishStatus{{Edges: []control.EdgeStatus{
			edge(func(e *control.EdgeStatus) { e.State = control.NotReady })}}}, exitTemporary},
		{"a state of a later version", []control.PublishStatus{{Edges: []control.EdgeStatus{
			edge(func(e *control.EdgeStatus) { e.State = "new" })}}}, exitTemporary},
		{"silent in the second directory", []control.PublishStatus{{Directory: "a", Edges: []control.EdgeStatus{good}},
			{Directory: "b", Edges: []control.EdgeStatus{edge(func(e *control.EdgeStatus) {
				e.Reported = control.Time{Time: now.Add(-control.EdgeSilentAfter - time.Second)}
			})}}}, exitTemporary},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fleetExit(control.Status{Publish: c.publish}, now); got != c.want {
				t.Errorf("exit status %d, want %d", got, c.want)
			}
		})
	}
}
