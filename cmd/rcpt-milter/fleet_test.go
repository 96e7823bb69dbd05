package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rcpt-milter/control"
)

// natsServer is an engine outside of the daemons, without TLS, on loopback.
type natsServer struct {
	t    testing.TB
	dir  string
	port int
	*server.Server
}

func newNATSServer(t testing.TB) *natsServer {
	t.Helper()
	n := &natsServer{t: t, dir: t.TempDir(), port: -1}
	n.start()
	t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() })
	return n
}

// start starts the server, again on the same port and files.
func (n *natsServer) start() {
	n.t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: n.port, JetStream: true, StoreDir: n.dir,
		NoLog: true, NoSigs: true})
	if err != nil {
		n.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		n.t.Fatal("the NATS server does not accept connections")
	}
	n.Server, n.port = s, s.Addr().(*net.TCPAddr).Port
}

// url returns the URL of the server.
func (n *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.port) }

// newHub returns a rig whose daemon publishes its directory.
func newHub(t testing.TB, n *natsServer, extra ...string) *rig {
	t.Helper()
	return newRig(t, append(extra, fmt.Sprintf("publish: {stream: {urls: [%s]}}", n.url()))...)
}

// newEdge returns a rig whose daemon follows a stream. It has no directory of its own.
func newEdge(t testing.TB, n *natsServer, extra ...string) *rig {
	t.Helper()
	directories := "directories:\n  - name: corp\n    stream: {urls: [" + n.url() + "]}\n    poll: 100ms\n"
	return newJoined(t, directories, extra...)
}

// recovery is how long a fleet may take after an outage, on a busy machine with the race detector.
const recovery = 45 * time.Second

// await waits until a lookup ends with a status by what the index has: an address that the hub only
// confirmed is not there yet.
func (r *rig) await(status int, address string) string {
	r.t.Helper()
	var got int
	var out, trouble string
	for until := time.Now().Add(recovery); time.Now().Before(until); {
		if got, out, trouble = r.command("lookup", address); got == status &&
			!strings.Contains(out, "verdict confirmed") {
			return out
		}
	}
	_, shown, _ := r.command("status")
	r.t.Fatalf("lookup %s: exit status %d, want %d\n%s%s\n%s", address, got, status, out, trouble, shown)
	return ""
}

// awaitState waits until the daemon has a state.
func (r *rig) awaitState(want control.State) {
	r.t.Helper()
	var s control.Status
	for until := time.Now().Add(patience); time.Now().Before(until); {
		if s = r.status(); s.State == want {
			return
		}
	}
	r.t.Fatalf("state %s, want %s: %+v", s.State, want, s.Directories)
}

// TestFleet: a change in Active Directory has its effect at an edge that reads only the stream.
func TestFleet(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n), newEdge(t, n)
	edge.serve()
	if out := edge.want(exitTemporary, "lookup", "jane@corp.example"); !strings.Contains(out, "corp is not ready") {
		t.Errorf("lookup before the first state:\n%s", out)
	}
	hub.serve()
	edge.await(exitOK, "jane@corp.example")
	edge.awaitState(control.Fresh) // an address is known before its pass ends
	out := edge.want(exitOK, "lookup", "jane@corp.example")
	for _, want := range []string{"published by hub ", "which follows " + hub.ad.HostName(), "at sequence "} {
		if !strings.Contains(out, want) {
			t.Errorf("lookup has no %q:\n%s", want, out)
		}
	}
	edge.await(exitFailure, "late@corp.example")
	guid := hub.addUser("late", "smtp:late@corp.example")
	edge.await(exitOK, "late@corp.example")
	if err := hub.ad.Delete(guid); err != nil {
		t.Fatal(err)
	}
	edge.await(exitFailure, "late@corp.example")
	checkFleetStatus(t, hub, edge)
}

// checkFleetStatus checks what a healthy fleet shows.
func checkFleetStatus(t *testing.T, hub, edge *rig) {
	t.Helper()
	var answer fleetAnswer
	for until := time.Now().Add(patience); ; {
		status, out, trouble := hub.command("fleet", "status", "--json")
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatalf("fleet status --json: %v\n%s%s", err, out, trouble)
		}
		if status == exitOK && len(answer.Edges) == 1 && answer.Edges[0].Addresses == 2 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("fleet status: exit status %d\n%s%s", status, out, trouble)
		}
	}
	if e := answer.Edges[0]; e.State != control.Fresh || !e.DigestOK || e.Behind != 0 || e.Directory != "corp" ||
		e.Version != programVersion() || !answer.Publish[0].Leading {
		t.Errorf("fleet status --json: %+v", answer)
	}
	if out := hub.want(exitOK, "fleet", "status"); !strings.Contains(out, "fresh") || !strings.Contains(out, "equal") {
		t.Errorf("fleet status:\n%s", out)
	}
	if out := hub.want(exitOK, "status"); !strings.Contains(out, "1 of 1 fresh and equal") {
		t.Errorf("status of the hub:\n%s", out)
	}
	out := edge.want(exitOK, "status")
	for _, want := range []string{"equals that of the hub", "the last good pass of the hub", hub.ad.HostName()} {
		if !strings.Contains(out, want) {
			t.Errorf("status of the edge has no %q:\n%s", want, out)
		}
	}
	if s := edge.status(); s.Directories[0].Stream == nil || s.Directories[0].Stream.DigestOK == nil ||
		!*s.Directories[0].Stream.DigestOK {
		t.Errorf("status of the edge: %+v", s.Directories[0].Stream)
	}
}

// aging makes an index late and stale soon.
const aging = "late_after: 3s\nstale_after: 6s"

// TestFleetHubLosesDirectory: an edge ages with the directory of its hub, although the hub answers.
func TestFleetHubLosesDirectory(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n), newEdge(t, n, aging)
	hub.serve()
	edge.serve()
	edge.await(exitFailure, "nobody@corp.example")
	hub.server.Down()
	edge.awaitState(control.Stale)
	if out := edge.want(exitTemporary, "lookup", "nobody@corp.example"); !strings.Contains(out, "451 4.3.0") {
		t.Errorf("lookup at a stale edge:\n%s", out)
	}
	edge.want(exitOK, "lookup", "jane@corp.example")
	if err := hub.server.Up(); err != nil {
		t.Fatal(err)
	}
	edge.awaitState(control.Fresh)
	edge.await(exitFailure, "nobody@corp.example")
}

// TestFleetHubStops: an edge keeps answering without its hub, and ages by its own clock.
func TestFleetHubStops(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n), newEdge(t, n, aging)
	d := hub.serve()
	edge.serve()
	edge.await(exitFailure, "nobody@corp.example")
	d.stop()
	edge.want(exitOK, "lookup", "jane@corp.example")
	edge.awaitState(control.Stale)
	edge.want(exitTemporary, "lookup", "nobody@corp.example")
	edge.want(exitOK, "lookup", "jane@corp.example")
	hub.addUser("late", "smtp:late@corp.example")
	hub.serve()
	edge.await(exitOK, "late@corp.example")
	edge.await(exitFailure, "nobody@corp.example")
}

// TestFleetEngineStops: without the engine an edge answers, ages, and recovers by itself.
func TestFleetEngineStops(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newHub(t, n), newEdge(t, n, aging)
	hub.serve()
	edge.serve()
	edge.await(exitFailure, "nobody@corp.example")
	n.Shutdown()
	n.WaitForShutdown()
	edge.want(exitOK, "lookup", "jane@corp.example")
	edge.awaitState(control.Stale)
	edge.want(exitTemporary, "lookup", "nobody@corp.example")
	hub.addUser("late", "smtp:late@corp.example")
	n.start()
	edge.await(exitOK, "late@corp.example")
	edge.await(exitFailure, "nobody@corp.example")
}

// TestFleetReload: a hub begins and ends to publish with a reload, and an edge follows another stream.
func TestFleetReload(t *testing.T) {
	n := newNATSServer(t)
	hub, edge := newRig(t), newEdge(t, n)
	hub.serve()
	edge.serve()
	edge.want(exitTemporary, "lookup", "jane@corp.example")
	publish := fmt.Sprintf("publish: {stream: {urls: [%s]}}\n", n.url())
	hub.edit("removal_grace: 0s\n", "removal_grace: 0s\n"+publish)
	hub.want(exitOK, "reload")
	edge.await(exitOK, "jane@corp.example")
	edge.await(exitFailure, "nobody@corp.example") // the first full pass of the edge has ended
	hub.edit(publish, "")
	hub.want(exitOK, "reload")
	if s := hub.status(); len(s.Publish) != 0 {
		t.Errorf("the hub still publishes: %+v", s.Publish)
	}
	hub.addUser("late", "smtp:late@corp.example")
	hub.want(exitOK, "sync", "--wait")
	hub.want(exitOK, "lookup", "late@corp.example")
	edge.want(exitFailure, "lookup", "late@corp.example")
	hub.edit("removal_grace: 0s\n", "removal_grace: 0s\n"+publish)
	hub.want(exitOK, "reload")
	edge.await(exitOK, "late@corp.example")
}

// TestFleetSetUp sets up a fleet as docs/fleet.md says: an engine inside the hub, and an enrolled edge.
func TestFleetSetUp(t *testing.T) {
	address := freePort(t)
	hub := newRig(t, "publish: {}")
	hub.edit("removal_grace: 0s\n", fmt.Sprintf(
		"removal_grace: 0s\nnats: {listen: inet:%[1]s, urls: [tls://%[1]s], dir: %[2]s/nats}\n", address, hub.dir))
	hub.serve()
	file := hub.dir + "/mx1.enrol"
	for until := time.Now().Add(patience); ; {
		status, out, trouble := hub.command("edge", "add", "mx1", "--output", file)
		if status == exitOK {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("edge add: exit status %d\n%s%s", status, out, trouble)
		}
	}
	if out := hub.want(exitOK, "edge", "join", file); !strings.Contains(out, "stream:") {
		t.Errorf("edge join:\n%s", out)
	}
	edge := newEdge(t, &natsServer{t: t})
	edge.edit("stream: {urls: [nats://127.0.0.1:0]}",
		fmt.Sprintf("stream: {urls: [tls://%s], credentials_file: %[2]s, tls: {ca_file: %[2]s}}", address, file))
	edge.serve()
	edge.await(exitOK, "jane@corp.example")
	edge.await(exitFailure, "nobody@corp.example")
	checkFleetStatus(t, hub, edge)
	if out := edge.want(exitOK, "check", "--live"); !strings.Contains(out, "directory corp: hub ") {
		t.Errorf("check --live at the edge:\n%s", out)
	}
	if out := hub.want(exitOK, "edge", "list"); !strings.Contains(out, "mx1") {
		t.Errorf("edge list:\n%s", out)
	}
	hub.want(exitOK, "edge", "remove", "mx1")
	hub.addUser("late", "smtp:late@corp.example")
	hub.want(exitOK, "sync", "--wait")
	edge.want(exitFailure, "lookup", "late@corp.example")
	edge.want(exitOK, "lookup", "jane@corp.example")
}
