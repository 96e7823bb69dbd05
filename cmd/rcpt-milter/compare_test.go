package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// compared is what compare --json prints.
type compared struct {
	Differences []control.Difference
	Directories []control.ComparedDirectory
	Equal       bool
}

func (r *rig) compare(status int, args ...string) (c compared) {
	r.t.Helper()
	got, stdout, stderr := r.command(append([]string{"compare", "--json"}, args...)...)
	if got != status {
		r.t.Errorf("compare %q: exit status %d, want %d\n%s%s", args, got, status, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &c); err != nil {
		r.t.Fatalf("compare --json: %v in\n%s", err, stdout)
	}
	return c
}

func TestCompare(t *testing.T) {
	r, users := guardedRig(t, 10)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "compare")
	if got := r.compare(exitOK); !got.Equal || got.Differences == nil || len(got.Directories) != 1 {
		t.Errorf("compare --json gives %+v", got)
	} else if d := got.Directories[0]; d.Name != "corp" || d.Objects != 11 || d.Addresses != 12 || !d.Followed ||
		d.DomainController != r.ad.HostName() || d.USN == 0 {
		t.Errorf("compare --json gives %+v of the directory", d)
	}
	r.addUser("new", "smtp:new@corp.example") // a pass that compare waits for will see it
	r.delete(users[:4]...)
	out := r.want(exitFailure, "compare")
	for _, want := range []string{"u0@corp.example", "CN=u0,CN=Users,DC=corp,DC=example"} {
		if !strings.Contains(out, want) {
			t.Errorf("compare has no %q:\n%s", want, out)
		}
	}
	got := r.compare(exitFailure, "--directory", "corp")
	if got.Equal || len(got.Differences) != 4 || got.Directories[0].Differences != 4 ||
		got.Directories[0].Unsettled != "" {
		t.Errorf("compare --json gives %+v", got)
	}
	for _, d := range got.Differences {
		if !d.InIndex || d.InDirectory || d.Cause != control.CauseHeld || d.Directory != "corp" || d.GUID == "" ||
			d.DN == "" {
			t.Errorf("difference: %+v", d)
		}
	}
	r.server.SetFaults(adsim.Faults{SearchResult: 51})
	if out := r.want(exitTemporary, "compare"); !strings.Contains(out, "corp") {
		t.Errorf("compare of a directory that cannot be read says\n%s", out)
	}
	if got := r.compare(exitTemporary); got.Equal || len(got.Differences) > 0 || got.Directories[0].Error == "" {
		t.Errorf("compare --json gives %+v", got)
	}
	r.compare(exitTemporary, "--directory", "nowhere")
}

// TestInterrupted: Ctrl-C is not reported as a difference, but in plain words.
func TestInterrupted(t *testing.T) {
	r := newRig(t)
	r.serve()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		args   []string
		status int
	}{{[]string{"compare"}, exitTemporary}, {[]string{"compare", "--json"}, exitTemporary},
		{[]string{"status"}, exitFailure}} {
		var stdout, stderr bytes.Buffer
		status := run(ctx, append(c.args, "--config", r.config), &stdout, &stderr)
		if status != c.status || stdout.String() != "" || stderr.String() != "rcpt-milter: interrupted\n" {
			t.Errorf("%s: exit status %d, %s%s", c.args, status, &stdout, &stderr)
		}
	}
}

func TestCompareNotReady(t *testing.T) {
	r := newRig(t)
	r.server.Down()
	d := r.serve()
	if got := r.compare(exitTemporary); len(got.Directories) != 1 || got.Directories[0].Error == "" || got.Equal {
		t.Errorf("compare --json gives %+v", got)
	}
	if s := r.status(); s.State != control.NotReady {
		t.Errorf("state %s, want %s", s.State, control.NotReady)
	}
	compare(t, "compare-not-ready.txt", r.want(exitTemporary, "compare"))
	d.stop()
	r.want(exitNotReachable, "compare")
	r.want(exitNotReachable, "compare", "--json")
}

func TestComparePage(t *testing.T) {
	a, out := pageApp()
	c := &comparePage{app: a}
	difference := func(address, cause string, inIndex, inDirectory bool) control.CompareEvent {
		return control.CompareEvent{Difference: &control.Difference{Directory: "corp", Address: address,
			DN: "CN=\x1b[2J", Class: "user",
			InIndex: inIndex, InDirectory: inDirectory, Cause: cause, NotBefore: before(-time.Hour)}}
	}
	for _, e := range []control.CompareEvent{
		{Progress: &control.CompareProgress{Directory: "corp", Objects: 1000}},
		{Directory: &control.ComparedDirectory{Name: "east", DomainController: "dc1.east", Followed: true, USN: 5,
			Objects: 1, Addresses: 2345, Seconds: 12.34}},
		difference("a@x.test", "", true, false),
		difference("b@x.test", "", false, true),
		difference("c@x.test", "", true, true),
		difference("d@x.test", control.CauseHeld, true, false),
		difference("e@x.test", control.CauseReplication, true, false),
		difference("f@x.test", control.CausePending, true, false),
		difference("g@x.test", control.CauseChanging, false, true),
		difference("h@x.test", "melted", false, true),
		{Directory: &control.ComparedDirectory{Name: "corp", DomainController: "dc2.corp.example", USN: 9, Objects: 3,
			Addresses: 4, Differences: 8,
			Unlisted: 2, Unsettled: "the pass failed", Seconds: 1}},
		difference("i@x.test", control.CauseRetired, true, false),
		{Directory: &control.ComparedDirectory{Name: "gone", Differences: 1}},
		{Directory: &control.ComparedDirectory{Name: "far", Error: "cut off"}},
	} {
		if err := c.add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.end(false); err != nil {
		t.Fatal(err)
	}
	compare(t, "compare.txt", out.String())
}

// TestCompareRetired: what the index still has of a directory that is no longer named.
func TestCompareRetired(t *testing.T) {
	r := newRig(t)
	other, lines := r.withLab()
	other.addUser("bob", "smtp:bob@lab.example")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop()
	r.edit(lines, "")
	r.serve()
	r.wantHeld("lab")
	got := r.compare(exitFailure)
	if len(got.Differences) != 1 || len(got.Directories) != 2 || !got.Directories[0].Equal() ||
		got.Directories[1].Differences != 1 {
		t.Errorf("compare --json gives %+v", got)
	}
	for _, d := range got.Differences {
		if d.Cause != control.CauseRetired || d.Directory != "lab" || !d.InIndex || d.DN == "" || d.Class != "user" {
			t.Errorf("difference: %+v", d)
		}
	}
}
