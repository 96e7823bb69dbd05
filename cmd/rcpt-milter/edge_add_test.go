package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEdgeAddKeepsFiles: edge add overwrites no file, and revokes no credentials if it cannot write the new
// ones.
func TestEdgeAddKeepsFiles(t *testing.T) {
	hub := newEngineHub(t)
	hub.serve()
	file := hub.enrol("mx1")
	before, added := hub.read(file), hub.members()["mx1"].Added
	for _, tt := range []struct{ name, output, want string }{
		{"the file exists", file, "file exists; choose another name"},
		{"no such directory", filepath.Join(hub.dir, "missing", "mx1.enrol"), "no such file or directory"},
		{"a directory", hub.dir, "file exists; choose another name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if out := hub.want(exitFailure, "edge", "add", "mx1", "--output", tt.output); !strings.Contains(out,
				tt.want) {
				t.Errorf("edge add has no %q:\n%s", tt.want, out)
			}
			hub.join(file)
		})
	}
	if hub.read(file) != before {
		t.Error("the file was overwritten")
	}
	if now := hub.members()["mx1"].Added; !now.Equal(added.Time) {
		t.Errorf("enrolled again at %v, first at %v", now, added)
	}
}

// TestEdgeAddTwice: a second file of a name works, and the first does not any longer.
func TestEdgeAddTwice(t *testing.T) {
	hub := newEngineHub(t)
	hub.serve()
	hub.await(exitOK, "jane@corp.example")
	first := hub.enrol("mx1")
	hub.join(first)
	second := hub.enrol("mx1")
	hub.join(second)
	if out := hub.want(exitFailure, "edge", "join", first); !strings.Contains(out,
		"the engine rejected the credentials") {
		t.Errorf("edge join with the first file:\n%s", out)
	}
	if n := len(hub.members()); n != 1 {
		t.Errorf("%d members, want 1", n)
	}
}

// TestEdgeAddBadInput: names, directories and combinations that cannot be enrolled leave no file and no
// member behind.
func TestEdgeAddBadInput(t *testing.T) {
	hub := newEngineHub(t)
	hub.serve()
	hub.awaitEngine()
	for _, tt := range []struct {
		name string
		args []string
		exit int
		want string
	}{
		{"empty", []string{""}, exitFailure, `"" is not a valid name`},
		{"a dot", []string{"mx1.dmz.example"}, exitFailure, `"mx1.dmz.example" is not a valid name`},
		{"a path", []string{"../mx1"}, exitFailure, `"../mx1" is not a valid name`},
		{"a wildcard", []string{"mx*"}, exitFailure, `"mx*" is not a valid name`},
		{"all subjects", []string{">"}, exitFailure, `">" is not a valid name`},
		{"a space", []string{"mx 1"}, exitFailure, `"mx 1" is not a valid name`},
		{"a new line", []string{"mx1\n# role: hub"}, exitFailure, "is not a valid name"},
		{"not ASCII", []string{"müx"}, exitFailure, "is not a valid name"},
		{"a node", []string{"n 2", "--node"}, exitFailure, `"n 2" is not a valid name`},
		{"too long", []string{strings.Repeat("m", 64)}, exitFailure, "63 at most"},
		{"a directory that is a wildcard", []string{"mx1", "--directory", "*"}, exitFailure,
			`"*" is not the name of a directory`},
		{"a directory with a new line", []string{"mx1", "--directory", "corp\n# role: hub"}, exitFailure,
			"is not the name of a directory"},
		{"a node without a cluster", []string{"n2", "--node"}, exitFailure, "set nats.cluster first"},
		{"a hub that is a node", []string{"n2", "--hub", "--node"}, exitUsage, "mutually exclusive"},
		{"no name", nil, exitUsage, "expected the name of an edge"},
		{"two names", []string{"mx1", "mx2"}, exitUsage, "expected the name of an edge"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"edge", "add", "--output", filepath.Join(dir, "x.enrol")}, tt.args...)
			if out := hub.want(tt.exit, args...); !strings.Contains(out, tt.want) {
				t.Errorf("edge add has no %q:\n%s", tt.want, out)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, error %v", left, err)
			}
		})
	}
	if all := hub.members(); len(all) != 0 {
		t.Errorf("members %+v", all)
	}
}

// TestEdgeWithoutEngine: a daemon without an engine, and no daemon, give clear errors.
func TestEdgeWithoutEngine(t *testing.T) {
	r := newRig(t)
	commands := [][]string{{"add", "mx1", "--output", filepath.Join(r.dir, "x.enrol")}, {"list"}, {"remove", "mx1"}}
	for _, args := range commands {
		if out := r.want(exitNotReachable, append([]string{"edge"}, args...)...); !strings.Contains(out,
			"is the daemon running") {
			t.Errorf("edge %s without a daemon:\n%s", args[0], out)
		}
	}
	r.serve()
	for _, args := range commands {
		if out := r.want(exitFailure, append([]string{"edge"}, args...)...); !strings.Contains(out,
			"this daemon has no engine; set nats") {
			t.Errorf("edge %s without an engine:\n%s", args[0], out)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, "x.enrol")); err == nil {
		t.Error("edge add left a file behind")
	}
}

// TestSecondHub: a hub that runs the engine needs no credentials; a second one joins with edge add --hub,
// and takes over when the first stops to publish.
func TestSecondHub(t *testing.T) {
	first := newEngineHub(t)
	first.serve()
	first.await(exitOK, "jane@corp.example")
	edge := newJoined(t, first.join(first.enrol("mx1")))
	file := first.enrol("hub2", "--hub")
	if members := first.members(); members["hub2"].Role != "hub" || len(members) != 2 {
		t.Errorf("members %+v", members)
	}
	printed := first.join(file)
	if !strings.Contains(printed, "as hub hub2") ||
		!strings.HasPrefix(printed[strings.Index(printed, "\n")+1:], "publish:") {
		t.Errorf("edge join of a hub:\n%s", printed)
	}
	second := newRig(t)
	second.follow(first, printed)
	edge.serve()
	edge.await(exitOK, "jane@corp.example")
	second.serve()
	for until := time.Now().Add(patience); ; {
		s := second.status()
		if p := s.Publish; len(p) == 1 && p[0].Link.Connected && !p[0].Leading && p[0].Holder != "" {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the second hub does not see the lease: %+v", s.Publish)
		}
	}
	first.edit("publish: {}\n", "")
	first.want(exitOK, "reload")
	first.addUser("late", "smtp:late@corp.example")
	edge.await(exitOK, "late@corp.example")
	if out := edge.want(exitOK, "lookup", "late@corp.example"); !strings.Contains(out, "published by hub hub2") {
		t.Errorf("lookup after the takeover:\n%s", out)
	}
}

// follow makes the daemon of a rig read the directory of another rig, with a printed configuration.
func (r *rig) follow(other *rig, printed string) {
	r.t.Helper()
	r.edit(r.server.URL(), other.server.URL())
	r.edit(r.ca, other.ca)
	r.edit(filepath.Join(r.dir, "password"), filepath.Join(other.dir, "password"))
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\n"+printed)
}

// TestEdgeAddEnds: an edge add that is interrupted leaves no file behind.
func TestEdgeAddEnds(t *testing.T) {
	hub := newEngineHub(t)
	hub.serve()
	hub.awaitEngine()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(hub.dir, "mx1.enrol")
	if status, out, trouble := hub.commandContext(ctx, "edge", "add", "mx1", "--output", file); status == exitOK {
		t.Errorf("edge add: %s", fmt.Sprint(status, out, trouble))
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("edge add left a file behind")
	}
}
