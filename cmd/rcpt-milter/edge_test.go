package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// newEngineHub returns a rig whose daemon runs an engine and publishes to it.
func newEngineHub(t *testing.T, extra ...string) *rig {
	t.Helper()
	at := freePort(t)
	return newRig(t, append(extra, "publish: {}",
		fmt.Sprintf("nats: {listen: 'inet:%s', urls: ['tls://%[1]s'], dir: %s}", at,
			filepath.Join(t.TempDir(), "nats")))...)
}

// enrol runs edge add with an output file, which it returns. The engine may still start.
func (r *rig) enrol(name string, args ...string) string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), name+".enrol")
	r.awaitEngine()
	out := r.want(exitOK, append([]string{"edge", "add", name, "--output", file}, args...)...)
	for _, want := range []string{"Wrote " + file, "Keep it secret"} {
		if !strings.Contains(out, want) {
			r.t.Errorf("edge add %s has no %q:\n%s", name, want, out)
		}
	}
	return file
}

// awaitEngine waits until the engine runs and has what the daemon publishes.
func (r *rig) awaitEngine() {
	r.t.Helper()
	for until := time.Now().Add(patience); ; {
		s := r.status()
		if s.Engine != nil && s.Engine.Ready && s.Publish[0].Sequence > 0 {
			return
		}
		if time.Now().After(until) {
			r.t.Fatalf("the engine is not ready: %+v, %+v", s.Engine, s.Publish)
		}
	}
}

// join runs edge join, and returns the configuration that it prints.
func (r *rig) join(file string) string {
	r.t.Helper()
	status, out, trouble := r.command("edge", "join", file)
	if status != exitOK || trouble != "" {
		r.t.Fatalf("edge join %s: exit status %d\n%s%s", file, status, out, trouble)
	}
	return out
}

// newJoined returns a rig whose daemon has a printed configuration and no directory of its own.
func newJoined(t testing.TB, printed string, extra ...string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "edge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir}
	r.config = r.write("config.yaml", strings.Join(extra, "\n")+fmt.Sprintf(`
listen: unix:%[1]s/milter/milter.sock
socket: {group: ""}
control: unix:%[1]s/run/control.sock
metrics: ""
store: {dir: %[1]s/store, min_free: 1MiB}
domains: {corp.example: enforce}
removal_grace: 0s
log: {level: debug}
`, dir)+printed)
	return r
}

// members returns the enrolled hosts by name.
func (r *rig) members() map[string]control.Member {
	r.t.Helper()
	var all []control.Member
	if err := json.Unmarshal([]byte(r.want(exitOK, "edge", "list", "--json")), &all); err != nil {
		r.t.Fatal(err)
	}
	byName := map[string]control.Member{}
	for _, m := range all {
		byName[m.Name] = m
	}
	return byName
}

// awaitLink waits until a daemon is connected to its engine, or not.
func (r *rig) awaitLink(connected bool) control.LinkStatus {
	r.t.Helper()
	var link control.LinkStatus
	for until := time.Now().Add(patience); time.Now().Before(until); {
		if s := r.status(); s.Directories[0].Stream != nil {
			if link = s.Directories[0].Stream.Link; link.Connected == connected {
				return link
			}
		}
	}
	r.t.Fatalf("connected: %t, want %t: %+v", link.Connected, connected, link)
	return link
}

// TestEnrolment: the two commands of an enrolment give an edge that follows, until it is removed.
func TestEnrolment(t *testing.T) {
	hub := newEngineHub(t)
	hub.serve()
	hub.await(exitOK, "jane@corp.example")
	began := time.Now()
	file := hub.enrol("mx1")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, error %v", info.Mode(), err)
	}
	printed := hub.join(file)
	if !strings.Contains(printed, "as edge mx1") || !strings.Contains(printed, "credentials_file: "+file) {
		t.Errorf("edge join:\n%s", printed)
	}
	edge := newJoined(t, printed, aging)
	edge.want(exitOK, "check")
	edge.want(exitOK, "check", "--live")
	edge.serve()
	edge.await(exitOK, "jane@corp.example")
	t.Logf("steps: edge add, edge join, start; %v until the edge answers", time.Since(began).Round(time.Millisecond))

	edge.await(exitFailure, "late@corp.example")
	guid := hub.addUser("late", "smtp:late@corp.example")
	edge.await(exitOK, "late@corp.example")
	if err := hub.ad.Delete(guid); err != nil {
		t.Fatal(err)
	}
	edge.await(exitFailure, "late@corp.example")
	if out := edge.want(exitFailure, "lookup", "late@corp.example"); !strings.Contains(out, "550 5.1.1") {
		t.Errorf("lookup of a removed recipient:\n%s", out)
	}
	t.Run("list", func(t *testing.T) { checkList(t, hub) })
	t.Run("remove", func(t *testing.T) { checkRemove(t, hub, edge, file) })
}

// checkList checks what edge list shows of a connected edge.
func checkList(t *testing.T, hub *rig) {
	m := hub.members()["mx1"]
	if !m.Connected || m.Role != control.RoleEdge || m.Since.IsZero() || !strings.HasPrefix(m.Remote, "127.0.0.1:") ||
		len(m.Directories) != 1 || m.Directories[0] != "corp" {
		t.Errorf("edge list --json: %+v", m)
	}
	row := regexp.MustCompile(`mx1 +edge +corp .*since .*from 127\.0\.0\.1:`)
	if out := hub.want(exitOK, "edge", "list"); !row.MatchString(out) {
		t.Errorf("edge list:\n%s", out)
	}
}

// checkRemove checks that a removed edge is cut off at once, stays so and ages, and that a new file in
// the same place brings it back.
func checkRemove(t *testing.T, hub, edge *rig, file string) {
	began := time.Now()
	if out := hub.want(exitOK, "edge", "remove", "mx1"); !strings.Contains(out, "Removed mx1") {
		t.Errorf("edge remove:\n%s", out)
	}
	edge.awaitLink(false)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("disconnected after %v", took)
	} else {
		t.Logf("disconnected after %v", took.Round(time.Millisecond))
	}
	edge.want(exitOK, "lookup", "jane@corp.example")
	if out := hub.want(exitOK, "edge", "list"); !strings.Contains(out, "No host is enrolled") {
		t.Errorf("edge list after the removal:\n%s", out)
	}
	hub.addUser("after", "smtp:after@corp.example")
	hub.await(exitOK, "after@corp.example")
	edge.awaitState(control.Stale)
	edge.want(exitTemporary, "lookup", "nobody@corp.example")
	edge.want(exitTemporary, "lookup", "after@corp.example")
	edge.want(exitOK, "lookup", "jane@corp.example")
	if link := edge.awaitLink(false); !strings.Contains(link.LastError, "the engine rejected the credentials") {
		t.Errorf("the link of a removed edge: %+v", link)
	}
	if out := edge.want(exitFailure, "edge", "join", file); !strings.Contains(out,
		"the engine rejected the credentials") {
		t.Errorf("edge join with revoked credentials:\n%s", out)
	}
	if out := hub.want(exitFailure, "edge", "remove", "mx1"); !strings.Contains(out, "mx1 is not enrolled") {
		t.Errorf("edge remove of a removed edge:\n%s", out)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	hub.want(exitOK, "edge", "add", "mx1", "--output", file)
	edge.await(exitOK, "after@corp.example")
	edge.await(exitFailure, "nobody@corp.example")
}
