package console

import (
	"reflect"
	"testing"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
)

// connected is a good connection to an engine.
func connected() control.LinkStatus {
	return control.LinkStatus{Connected: true, Server: "tls://mx1.dmz.example:4222", Since: before(26 * time.Hour)}
}

// goodEdge is an edge that follows well.
func goodEdge(name string) control.EdgeStatus {
	return control.EdgeStatus{Name: name, Version: "1.2.3", State: control.Fresh, Generation: "g", Sequence: 4711,
		DigestOK: true, Addresses: 1234567, Lag: 0.213, Reported: before(7 * time.Second)}
}

// hubStatus is a hub with an engine and two good edges.
func hubStatus() control.Status {
	s := freshStatus()
	s.Publish = []control.PublishStatus{{Directory: "corp", Link: connected(), Leading: true, Holder: "hub1",
		Generation: "g", Sequence: 4711, Due: 4711, Published: before(2 * time.Second),
		Edges: []control.EdgeStatus{goodEdge("mx1"), goodEdge("mx2")}}}
	s.Engine = &control.EngineStatus{Listen: "inet:0.0.0.0:4222", Running: true, Ready: true, Clients: 3, Members: 4,
		Streams: 2, Disk: 12 << 20, MaxDisk: 1 << 30, Expires: before(-900 * 24 * time.Hour)}
	return s
}

// troubledHub has an edge in each trouble, and cannot publish.
func troubledHub() control.Status {
	s := hubStatus()
	p := &s.Publish[0]
	late, stale, silent, held, differs := goodEdge("late"), goodEdge("stale"), goodEdge("silent"), goodEdge("held"),
		goodEdge("differs")
	late.State, late.Sequence, late.Lag = control.Late, 4700, 75
	stale.State, stale.LastError = control.Stale, "no connection to the engine: \x1b[31mtimeout"
	silent.Reported = before(time.Hour)
	held.Held = 601
	differs.Name, differs.DigestOK = "differs\x1b[2J\u202e", false
	p.Edges = []control.EdgeStatus{goodEdge("mx1"), late, stale, silent, held, differs}
	p.Leading, p.Holder, p.Pending, p.LastError = false, "hub2\x1b[2J", 12, "the stream is full"
	p.FailingSince = before(time.Hour)
	s.Publish = append(s.Publish,
		control.PublishStatus{Directory: "lab", LastError: "no route to host",
			Link: control.LinkStatus{Since: before(time.Hour), LastError: "no route to host"}},
		control.PublishStatus{Directory: "new"})
	s.Engine = &control.EngineStatus{Listen: "inet:0.0.0.0:4222", Running: true, Node: "a", Nodes: 3, Clients: 1,
		MaxDisk: 1 << 30, LastError: "no quorum"}
	return s
}

// edgeStatus is an edge that follows a hub.
func edgeStatus() control.Status {
	s := freshStatus()
	d := &s.Directories[0]
	d.DomainController, d.USN, d.HighestCommittedUSN = "hub hub1", 4711, 4711
	d.Notify, d.DeletedObjectsVisible = false, nil
	d.Stream = &control.StreamStatus{Link: connected(), Hub: "hub1", HubVersion: "1.2.3",
		Controller: "dc1.corp.example", AsOf: before(3 * time.Second),
		Generation: "6f1e3c70-5a3b-4c1d-9e8f-001122334455",
		Sequence:   4711, DigestOK: ptr(true)}
	s.Confirm.Directories = []control.ConfirmDirectory{{Name: "corp", DomainController: "hub hub1"}}
	return s
}

// troubledEdge is an edge without its engine, whose index differs.
func troubledEdge() control.Status {
	s := edgeStatus()
	s.Unparsed = 1
	s.UnparsedValues = []control.UnparsedValue{{Directory: "corp", Attribute: "proxyAddresses", Value: "x y",
		Reason: "it has a space"}}
	d := &s.Directories[0]
	d.HighestCommittedUSN = 4722
	d.Stream.Link = control.LinkStatus{Since: before(time.Hour), LastError: "connection refused\x1b[2J"}
	d.Stream.DigestOK, d.Stream.Unreadable = ptr(false), 2
	s.Directories = append(s.Directories, control.DirectoryStatus{Name: "new", State: control.NotReady,
		Stream: &control.StreamStatus{}})
	return s
}

func TestFleetSections(t *testing.T) {
	for _, c := range []struct {
		file string
		s    control.Status
	}{
		{"status-hub.txt", hubStatus()},
		{"status-hub-troubled.txt", troubledHub()},
		{"status-edge.txt", edgeStatus()},
		{"status-edge-troubled.txt", troubledEdge()},
	} {
		t.Run(c.file, func(t *testing.T) {
			var p terminal.Page
			writer.Status(&p, c.s)
			compare(t, c.file, p.String())
		})
	}
}

func TestFleet(t *testing.T) {
	for _, c := range []struct {
		file string
		s    control.Status
	}{
		{"fleet-good.txt", hubStatus()},
		{"fleet-troubled.txt", troubledHub()},
		{"fleet-alone.txt", control.Status{Publish: []control.PublishStatus{{Directory: "corp", Link: connected(),
			Leading: true}}}},
		{"fleet-none.txt", freshStatus()},
		{"fleet-engine-down.txt", control.Status{Engine: &control.EngineStatus{LastError: "port in use"}}},
	} {
		t.Run(c.file, func(t *testing.T) {
			var p terminal.Page
			writer.Fleet(&p, c.s)
			compare(t, c.file, p.String())
		})
	}
}

// hostileFleet is a status whose every text would control a terminal.
func hostileFleet(change func(*control.Status)) control.Status {
	var s control.Status
	hostile(reflect.ValueOf(&s).Elem())
	change(&s)
	return s
}
