package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
	"rcpt-milter/testenv/adsim"
)

// guardedRig has a directory with a sensitive guard and so many users.
func guardedRig(t *testing.T, users int) (*rig, []adsim.GUID) {
	t.Helper()
	r := newRig(t)
	r.edit("    poll: 100ms\n", "    poll: 100ms\n    removal_guard: {count: 2, percent: 5, max: 100}\n")
	var all []adsim.GUID
	for i := range users {
		all = append(all, r.addUser(fmt.Sprint("u", i), fmt.Sprintf("smtp:u%d@corp.example", i)))
	}
	return r, all
}

func (r *rig) delete(guids ...adsim.GUID) {
	r.t.Helper()
	for _, g := range guids {
		if err := r.ad.Delete(g); err != nil {
			r.t.Fatal(err)
		}
	}
}

// rows reads what a command prints with --json.
func rows[T any](r *rig, status int, args ...string) (list []T) {
	r.t.Helper()
	out := r.want(status, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		r.t.Fatalf("%q: %v in\n%s", args, err, out)
	}
	return list
}

// TestRemovals is the life of removals that are held back, through restarts.
func TestRemovals(t *testing.T) {
	r, users := guardedRig(t, 10)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	nothing := r.want(exitOK, "removals")
	if got := rows[control.HeldRemoval](r, exitOK, "removals"); len(got) != 0 || got == nil {
		t.Errorf("removals --json gives %v, want an empty list", got)
	}
	r.delete(users[:4]...)
	r.want(exitOK, "sync", "--wait")
	d.stop()
	r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "u0@corp.example")
	r.want(exitFailure, "status")
	if d := r.status().Directories[0]; d.HeldRemovals != 4 || !strings.Contains(d.HoldReason, "removal_guard.count") {
		t.Errorf("status of the directory: %+v", d)
	}
	out := r.want(exitOK, "removals", "--directory", "corp")
	for _, want := range []string{"u0@corp.example", "rcpt-milter removals approve --directory corp --up-to "} {
		if !strings.Contains(out, want) {
			t.Errorf("removals has no %q:\n%s", want, out)
		}
	}
	if got := rows[control.HeldRemoval](r, exitOK, "removals"); len(got) != 4 || got[0].Directory != "corp" ||
		got[0].DN == "" ||
		!got[0].LastOwner || got[0].WaitsFor != control.WaitsApproval || got[0].Class != "user" ||
		got[0].Since.IsZero() || got[0].GUID == "" {
		t.Errorf("removals --json gives %+v", got)
	}
	if out := r.want(exitFailure, "removals", "approve", "--directory", "lab"); !strings.Contains(out, `"lab"`) ||
		!strings.Contains(out, "corp") {
		t.Errorf("removals approve of another directory says %q", out)
	}
	settled := func(want control.RemovalsDone, args ...string) {
		t.Helper()
		if out := r.want(exitOK, args...); out != settledText(want)+"\n" {
			t.Errorf("%q says %q, want that of %+v", args, out, want)
		}
	}
	settled(control.RemovalsDone{Directory: "corp", Kept: 4}, "removals", "discard")
	r.want(exitOK, "status")
	r.want(exitOK, "lookup", "u0@corp.example")
	r.want(exitOK, "sync", "--full", "--wait")
	r.want(exitFailure, "status")
	held := rows[control.HeldRemoval](r, exitOK, "removals")
	settled(control.RemovalsDone{Directory: "corp", Waiting: 4, Pass: held[0].Pass}, "removals", "approve",
		"--directory", "corp", "--up-to", fmt.Sprint(held[0].Pass-1))
	r.want(exitFailure, "status")
	r.want(exitOK, "removals", "approve", "--directory", "corp", "--up-to", fmt.Sprint(held[0].Pass))
	if lost := r.lostRows(); lost["u0@corp.example"] == 0 || len(lost) != 4 {
		t.Errorf("removed, with their passes: %v", lost)
	}
	r.want(exitFailure, "lookup", "u0@corp.example")
	r.want(exitOK, "lookup", "u4@corp.example")
	r.want(exitOK, "status")
	compare(t, "removals-none.txt", nothing+r.want(exitOK, "removals", "approve"))
	r.want(exitUsage, "removals", "approve", "--up-to", "1")
	r.want(exitUsage, "removals", "aprove")
	r.want(exitUsage, "removals", "approve", "corp")
}

// lostRows returns the lost addresses of the journal, with the numbers of their passes.
func (r *rig) lostRows() map[string]uint64 {
	r.t.Helper()
	lost := map[string]uint64{}
	for _, row := range rows[control.JournalRow](r, exitOK, "journal", "--since", "1h") {
		if row.Change == control.Lost {
			lost[row.Address] = row.Pass
		}
	}
	return lost
}

// TestRemovalList: what is printed of each kind, sorted, without harm to a terminal.
func TestRemovalList(t *testing.T) {
	a, out := pageApp()
	s := control.Status{Directories: []control.DirectoryStatus{{Name: "corp", HeldRemovals: 2, HoldReason: "too many"},
		{Name: "lab"}}}
	l := &removalList{app: a, status: s, titles: []string{"Address", "Object", "Class", "Pass", "Since", "Last owner",
		"Waits for"}}
	for _, h := range []control.HeldRemoval{
		{Directory: "corp", Address: "zoe@x.test", DN: "CN=Zoe", Class: "user", Pass: 7, Since: before(time.Hour),
			LastOwner: true, WaitsFor: control.WaitsApproval},
		{Directory: "corp", Address: "ann@x.test", DN: "CN=\x1b[2J", Class: "contact", Pass: 12,
			Since: before(time.Minute), WaitsFor: control.WaitsApproval},
		{Directory: "lab", Address: "bob@y.test", DN: "CN=Bob", Class: "group", Pass: 3, Since: before(time.Minute),
			WaitsFor: control.WaitsReplication, NotBefore: before(-time.Hour)},
		{Directory: "lab", Address: "cid@y.test", DN: "CN=Cid", Class: "group", Pass: 3, Since: before(time.Minute),
			WaitsFor: control.WaitsPass},
		{Directory: "lab", Address: "eve@y.test", DN: "CN=Eve", Class: "user", Pass: 3, Since: before(time.Minute),
			LastOwner: true, WaitsFor: control.WaitsPass, BecomesInternalOnly: true},
	} {
		if err := l.add(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.end(control.RemovalsQuery{}); err != nil {
		t.Fatal(err)
	}
	compare(t, "removals.txt", out.String())
}

// TestSettled: removals that were not approved are reported too.
func TestSettled(t *testing.T) {
	var out strings.Builder
	for _, done := range []control.RemovalsDone{
		{Directory: "corp", Removed: 4, Pass: 9},
		{Directory: "corp", Removed: 1, Pass: 9, Waiting: 1},
		{Directory: "corp", Pass: 9, Waiting: 60},
		{Directory: "corp", Kept: 4},
	} {
		out.WriteString(settledText(done) + "\n")
	}
	compare(t, "removals-settled.txt", out.String())
}

// TestJSONRows: whatever the number of rows, it is one document.
func TestJSONRows(t *testing.T) {
	for n := range 4 {
		a, out := pageApp()
		list := &text.JSONRows{W: a.stdout}
		want := []string{}
		for i := range n {
			want = append(want, fmt.Sprint(i, "\x1b\n"))
			if err := list.Add(want[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := list.End(); err != nil {
			t.Fatal(err)
		}
		var got []string
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || !cmp.Equal(want, got) ||
			strings.Contains(out.String(), "\x1b") {
			t.Errorf("%d rows: %q, %v, want %q", n, out, err, want)
		}
	}
}

// TestInternalOnlyRemovals: with internal_only: refuse, who becomes internal-only is held,
// listed, approved and deferred for the grace like who leaves.
func TestInternalOnlyRemovals(t *testing.T) {
	r, users := guardedRig(t, 10)
	r.edit("    poll: 100ms\n", "    poll: 100ms\n    internal_only: refuse\n")
	r.edit("removal_grace: 0s", "removal_grace: 1h")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	restrict := func(value ...string) {
		t.Helper()
		for _, g := range users[:4] {
			if err := r.ad.Modify(g, adsim.Set("msExchRequireAuthToSendTo", value...)); err != nil {
				t.Fatal(err)
			}
		}
		r.want(exitOK, "sync", "--wait")
	}
	restrict("TRUE")
	if got := r.lookup(exitOK, "u0@corp.example"); len(got.Owners) != 1 || !got.Owners[0].BecomesInternalOnly {
		t.Errorf("lookup of a held one gives %+v", got)
	}
	held := rows[control.HeldRemoval](r, exitOK, "removals")
	if len(held) != 4 || !held[0].BecomesInternalOnly || !held[0].LastOwner ||
		held[0].WaitsFor != control.WaitsApproval {
		t.Errorf("removals --json gives %+v", held)
	}
	r.want(exitOK, "removals", "approve")
	if lost := r.lostRows(); len(lost) != 4 {
		t.Errorf("removed: %v", lost)
	}
	if got := r.lookup(exitTemporary, "u0@corp.example"); got.Verdict != "in-grace" || got.Rule != 8 ||
		!strings.HasPrefix(got.Reply, "450 4.1.1 <u0@corp.example>: ") ||
		!slices.ContainsFunc(got.History,
			func(r control.JournalRow) bool { return r.Change == "-" && r.InternalOnly }) {
		t.Errorf("lookup after the approval gives %+v", got)
	}
	r.want(exitOK, "lookup", "u0@corp.example", "--authenticated")
	restrict()
	r.want(exitOK, "lookup", "u0@corp.example")
	changes := map[string]bool{}
	for _, row := range rows[control.JournalRow](r, exitOK, "journal", "--since", "1h") {
		if !row.InternalOnly {
			t.Errorf("journal --json gives %+v", row)
		}
		changes[row.Change+row.Address] = true
	}
	if !changes[control.Lost+"u0@corp.example"] || !changes[control.Gained+"u0@corp.example"] {
		t.Errorf("changes in the journal: %v", changes)
	}
	d.stop()
}
