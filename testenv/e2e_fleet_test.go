package testenv_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"rcpt-milter/testenv"
)

// fleetAging makes the index of an edge stale soon after the directory is lost.
const fleetAging = "late_after: 4s\nstale_after: 8s\n"

// fleetDeadline limits the test of a fleet, on a machine that does other things too.
const fleetDeadline = 5 * time.Minute

// fleetPause is the pause of a prober between two rounds, which leaves processor time to the fleet.
const fleetPause = 100 * time.Millisecond

// fleetUnknown is an address that never exists.
const fleetUnknown = "nobody@corp.example"

// requireFleet starts a hub and two enrolled edges, for the rest of the test.
func requireFleet(t *testing.T) *edge {
	t.Helper()
	e := require(t).in(t, fleetDeadline)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
		defer cancel()
		if err := e.RemoveFleet(ctx); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	began := time.Now()
	e.must(e.StartFleet(e.ctx))
	t.Logf("hub, engine and two Postfix: %.1f s", time.Since(began).Seconds())
	for _, at := range testenv.Edges() {
		began := time.Now()
		steps, err := e.Enrol(e.ctx, at, testenv.Overlay(fleetAging))
		e.must(err)
		if !strings.Contains(steps[1].Output, "stream:") {
			t.Errorf("edge join at %s:\n%s", at.Daemon, steps[1].Output)
		}
		e.fleetReplies("alice@corp.example", 250, at)
		t.Logf("%s: from edge add to the first accepted recipient: %.1f s", at.Daemon, time.Since(began).Seconds())
	}
	return e
}

// fleetReplies waits until edges give a reply, all edges unless some are named.
func (e *edge) fleetReplies(recipient string, code int, at ...testenv.Edge) {
	e.t.Helper()
	if len(at) == 0 {
		at = testenv.Edges()
	}
	took := make([]time.Duration, len(at))
	var group errgroup.Group
	for i, at := range at {
		group.Go(func() (err error) {
			_, took[i], err = e.AwaitReplyAt(e.ctx, at.MX, recipient, code)
			return err
		})
	}
	e.must(group.Wait())
	for i, at := range at {
		e.t.Logf("%s: %d for %s after %.2f s", at.MX, code, recipient, took[i].Seconds())
	}
}

// TestFleet: two edges that cannot reach dc1 follow a hub. A prober at each edge asks for every valid
// address all the time, while dc1 and the hub with its engine fail and return.
func TestFleet(t *testing.T) {
	e := requireFleet(t)
	e.checkWays()
	domain := e.administrator()
	valid, _, err := domain.Recipients()
	e.must(err)
	var stops []func()
	for _, at := range testenv.Edges() {
		_, stop := e.probeAt(at.MX, fleetPause, valid...)
		stops = append(stops, stop)
	}
	dn := e.fleetUser(domain, "fleet")
	e.must(domain.Delete(dn))
	e.fleetReplies("fleet@corp.example", 550)
	e.fleetWithoutController()
	e.fleetWithoutHub()
	for _, stop := range stops {
		stop()
	}
}

// checkWays checks that no edge can open a connection to dc1, while the hub can, and that each edge
// reaches the engine. The connections are attempted at once, because the firewall drops packets.
func (e *edge) checkWays() {
	e.t.Helper()
	var group errgroup.Group
	check := func(from, to string, want bool, open func() (bool, error)) {
		group.Go(func() error {
			got, err := open()
			if err == nil && got != want {
				err = fmt.Errorf("TCP connection from %s to %s: open is %t, want %t", from, to, got, want)
			}
			return err
		})
	}
	for _, port := range []int{389, 636} {
		toDC := func(from string, want bool) {
			check(from, fmt.Sprintf("port %d of dc1", port), want, func() (bool, error) {
				return e.Reaches(e.ctx, from, testenv.DC, port)
			})
		}
		toDC(testenv.Hub, true)
		for _, at := range testenv.Edges() {
			toDC(at.Daemon, false)
			toDC(at.MX, false)
		}
	}
	for _, at := range testenv.Edges() {
		check(at.Daemon, "the engine", true, func() (bool, error) { return e.ReachesEngine(e.ctx, at) })
	}
	e.must(group.Wait())
}

// fleetUser creates a user, and waits until every edge accepts its address.
func (e *edge) fleetUser(domain *testenv.Domain, name string) (dn string) {
	e.t.Helper()
	address := name + "@corp.example"
	e.must(domain.Delete("CN=" + name + "," + testenv.StaffOU)) // of a run that was interrupted
	e.fleetReplies(address, 550)
	dn, err := domain.AddUser(testenv.Person{Name: name, Mail: address, Proxies: []string{"SMTP:" + address}})
	e.must(err)
	e.t.Cleanup(func() { domain.Delete(dn) })
	e.fleetReplies(address, 250)
	return dn
}

// fleetWithoutController: without dc1 the edges answer, become stale with the hub, and recover.
func (e *edge) fleetWithoutController() {
	e.t.Helper()
	e.must(e.Stop(e.ctx, testenv.DC))
	e.fleetReplies(fleetUnknown, 451)
	e.fleetReplies("alice@corp.example", 250)
	e.must(e.StartOnly(e.ctx, testenv.DC))
	e.fleetReplies(fleetUnknown, 550)
}

// fleetWithoutHub: the hub is killed with its engine, and then an edge. The edges answer, and follow
// again when the hub is back: the indexes are equal then.
func (e *edge) fleetWithoutHub() {
	e.t.Helper()
	e.must(e.Kill(e.ctx, testenv.Hub))
	for _, at := range testenv.Edges() {
		reply, err := e.AskAt(e.ctx, at.MX, "alice@corp.example")
		e.must(err)
		if reply.Code() != 250 {
			e.t.Errorf("%s replied %q without the hub", at.MX, reply)
		}
	}
	first := testenv.Edges()[0]
	e.must(e.Kill(e.ctx, first.Daemon)) // it has its index from disk
	e.must(e.StartOnly(e.ctx, first.Daemon))
	e.fleetReplies("alice@corp.example", 250, first)
	e.fleetReplies(fleetUnknown, 451) // stale by their own clock
	e.fleetReplies("alice@corp.example", 250)
	e.must(e.AwaitHealthy(e.ctx, testenv.DC))
	domain := e.administrator()
	e.must(e.StartOnly(e.ctx, testenv.Hub))
	e.fleetUser(domain, "fleet-late")
	e.must(e.AwaitFleet(e.ctx))
}
