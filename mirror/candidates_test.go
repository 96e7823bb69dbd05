package mirror

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// dns is a Discover function that a test controls.
type dns struct {
	list  []Candidate
	err   error
	asked int
}

func (d *dns) discover(context.Context) ([]Candidate, error) {
	d.asked++
	return d.list, d.err
}

func TestDiscoveredControllers(t *testing.T) {
	var found dns
	var d2 *adsim.Directory
	var second Candidate
	w := newWorld(t, func(w *world, c *Config) {
		var s2 *adsim.Server
		d2, s2 = w.twin()
		second = w.candidate(s2)
		c.Candidates, c.Discover = nil, found.discover
	})
	w.user("Ann", "ann@corp.example")
	found.err = directory.ErrUnreachable
	if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, directory.ErrUnreachable) || r.Info.Started.IsZero() {
		t.Errorf("without an answer of DNS: %+v", r)
	}
	if got := w.mirror.Status().Warnings; len(got) != 1 {
		t.Errorf("warnings %q", got)
	}
	found.err = nil
	if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
		t.Error("a pass without a controller succeeded")
	}
	found.list = []Candidate{w.candidate(w.server)}
	w.pass(store.Full)
	if got := w.mirror.Status().Warnings; len(got) != 0 {
		t.Errorf("warnings %q after DNS answered", got)
	}
	// There is no discovery while the controller answers.
	asked := found.asked
	w.advance(time.Hour)
	w.pass(store.Incremental)
	if found.asked != asked {
		t.Errorf("asked %d times while the controller served", found.asked-asked)
	}
	// If the controller and DNS both fail, the known candidates stay.
	w.server.Down()
	found.list, found.err = nil, directory.ErrUnreachable
	for range 3 { // at most once a minute
		if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, directory.ErrUnreachable) {
			t.Errorf("without a controller: %v", r.Err)
		}
	}
	if found.asked != asked+1 {
		t.Errorf("asked %d times within a minute, want once", found.asked-asked)
	}
	w.must(w.server.Up())
	w.pass(store.Incremental)
	// Another controller replaces it.
	d2.Restore(w.d.Snapshot())
	d2.NewInvocationID()
	w.server.Down()
	w.advance(time.Minute)
	found.list, found.err = []Candidate{second}, nil
	if info := w.pass(store.Full); info.Controller != "dc2.corp.example" {
		t.Errorf("after another controller was discovered: %+v", info)
	}
	w.wantEqual()
}

// TestPartlyDiscovered checks that an incomplete list is used if there is no better one.
func TestPartlyDiscovered(t *testing.T) {
	var found dns
	w := newWorld(t, func(w *world, c *Config) {
		found = dns{list: []Candidate{w.candidate(w.server)}, err: directory.ErrUnreachable}
		c.Candidates, c.Discover = nil, found.discover
	})
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.server.CutConnections()
	w.server.SetFaults(adsim.Faults{SearchResult: 51})
	w.advance(time.Minute)
	_, other := w.twin()
	found.list = []Candidate{w.candidate(other)}
	if r := w.mirror.Pass(t.Context(), false); r.Err == nil || other.Stats().Connections != 0 {
		t.Errorf("%v, and %d connections to a controller of half an answer", r.Err, other.Stats().Connections)
	}
}

// TestControllerIsKeptOverARestart checks that a restart does not change the controller.
func TestControllerIsKeptOverARestart(t *testing.T) {
	var d2 *adsim.Directory
	var second *adsim.Server
	w := newWorld(t, func(w *world, c *Config) {
		d2, second = w.twin()
		c.Candidates = append(c.Candidates, w.candidate(second))
		c.Candidates[0].Host, c.Candidates[1].Host = "dc1.corp.example", "dc2.corp.example"
	})
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	d2.Restore(w.d.Snapshot())
	d2.NewInvocationID()
	w.server.Down()
	if info := w.pass(store.Full); info.Controller != "dc2.corp.example" {
		t.Fatalf("after the first controller went: %+v", info)
	}
	w.must(w.server.Up())
	w.restart()
	if info := w.pass(store.Incremental); info.Controller != "dc2.corp.example" {
		t.Errorf("after a restart: %+v", info)
	}
	second.Down()
	if info := w.pass(store.Full); info.Controller != "dc1.corp.example" {
		t.Errorf("after the second controller went: %+v", info)
	}
}

// roundRobin returns a candidate that leads to each of several servers in turn.
func (w *world) roundRobin(servers ...*adsim.Server) Candidate {
	var all []Candidate
	for _, s := range servers {
		all = append(all, w.candidate(s))
	}
	turn := -1
	return Candidate{Name: "ldaps://corp.example:636", Host: "corp.example",
		Dial: func(ctx context.Context) (Source, error) {
			turn++
			return all[turn%len(all)].Dial(ctx)
		}}
}

func TestNameThatLeadsToDifferentControllers(t *testing.T) {
	var log bytes.Buffer
	var d2 *adsim.Directory
	var second *adsim.Server
	w := newWorld(t, func(w *world, c *Config) {
		d2, second = w.twin()
		c.Candidates = []Candidate{w.roundRobin(w.server, second)}
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	if got := w.mirror.Status().Warnings; len(got) != 0 {
		t.Errorf("warnings %q before anything flapped", got)
	}
	d2.Restore(w.d.Snapshot())
	d2.NewInvocationID()
	// The connection is lost, and the name leads to the other controller. It is dialed again until it leads to
	// the followed one, so no full pass is needed.
	w.server.CutConnections()
	if info := w.pass(store.Incremental); info.Controller != "dc1.corp.example" || second.Stats().Connections != 1 {
		t.Errorf("%+v after %d connections to the other controller", info, second.Stats().Connections)
	}
	got := w.mirror.Status().Warnings
	if len(got) != 1 || !strings.Contains(got[0], "dc1.corp.example") ||
		!strings.Contains(got[0], "dc2.corp.example") || !strings.Contains(got[0], "ldaps://corp.example:636") {
		t.Errorf("warnings %q", got)
	}
	// The followed controller is gone, so the other one is used.
	w.server.Down()
	r := w.mirror.Pass(t.Context(), false)
	if r.Err != nil { // the name led to the other controller
		r = w.mirror.Pass(t.Context(), false)
	}
	if r.Err != nil || r.Info.Controller != "dc2.corp.example" {
		t.Errorf("with the other one only: %+v", r)
	}
	if got := strings.Count(log.String(), "one name leads to several domain controllers"); got != 1 {
		t.Errorf("%d warnings in the log within an hour, want one:\n%s", got, &log)
	}
	w.advance(ambiguousHostWarning + time.Minute)
	if got := w.mirror.Status().Warnings; len(got) != 0 {
		t.Errorf("warnings %q a day later", got)
	}
}
