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
	if out := r.want(exitOK, "removals"); out != "No removals are held back.\n" {
		t.Errorf("removals says %q", out)
	}
	if got := rows[control.HeldRemoval](r, exitOK, "removals"); len(got) != 0 || got == nil {
		t.Errorf("removals --json gives %v, want an empty list", got)
	}
	r.delete(users[:4]...)
	r.want(exitOK, "sync", "--wait")
	d.stop()
	r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "u0@corp.example")
	out := r.want(exitFailure, "status")
	for _, want := range []string{"4 addresses, still accepted", "removal_guard.count (2)", `"rcpt-milter removals"`} {
		if !strings.Contains(out, want) {
			t.Errorf("status has no %q:\n%s", want, out)
		}
	}
	out = r.want(exitOK, "removals", "--directory", "corp")
	for _, want := range []string{"Directory corp: 4 removals held back: ", "\nu0@corp.example   CN=u0",
		"yes          approval\n",
		"rcpt-milter removals approve --directory corp --up-to "} {
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
	if out := r.want(exitFailure, "removals", "approve", "--directory", "lab"); !strings.Contains(out,
		`there is no directory "lab"; there are: corp`) {
		t.Errorf("removals approve of another directory says %q", out)
	}
	if out := r.want(exitOK, "removals", "discard"); out != "corp: discarded, 4 objects keep their addresses until a "+
		"full pass misses them again\n" {
		t.Errorf("removals discard says %q", out)
	}
	r.want(exitOK, "status")
	r.want(exitOK, "lookup", "u0@corp.example")
	r.want(exitOK, "sync", "--full", "--wait")
	r.want(exitFailure, "status")
	held := rows[control.HeldRemoval](r, exitOK, "removals")
	if out := r.want(exitOK, "removals", "approve", "--directory", "corp", "--up-to",
		fmt.Sprint(held[0].Pass-1)); out != "corp: 0 addresses removed; 4 later ones still wait\n" {
		t.Errorf("removals approve up to a pass before says %q", out)
	}
	r.want(exitFailure, "status")
	if out := r.want(exitOK, "removals", "approve", "--directory", "corp", "--up-to",
		fmt.Sprint(held[0].Pass)); !strings.HasPrefix(out, "corp: 4 addresses removed, by pass ") {
		t.Errorf("removals approve says %q", out)
	}
	r.want(exitFailure, "lookup", "u0@corp.example")
	r.want(exitOK, "lookup", "u4@corp.example")
	r.want(exitOK, "status")
	if out := r.want(exitOK, "removals", "approve"); out != "No removals are held back.\n" {
		t.Errorf("removals approve of nothing says %q", out)
	}
	r.want(exitUsage, "removals", "approve", "--up-to", "1")
	r.want(exitUsage, "removals", "aprove")
	r.want(exitUsage, "removals", "approve", "corp")
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
	for _, c := range []struct {
		done control.RemovalsDone
		want string
	}{
		{control.RemovalsDone{Directory: "corp", Removed: 4, Pass: 9}, "corp: 4 addresses removed, by pass 9"},
		{control.RemovalsDone{Directory: "corp", Removed: 1, Pass: 9, Waiting: 1},
			"corp: 1 address removed, by pass 9; 1 later one still waits"},
		{control.RemovalsDone{Directory: "corp", Pass: 9, Waiting: 60},
			"corp: 0 addresses removed; 60 later ones still wait"},
	} {
		if got := settledText(c.done); got != c.want {
			t.Errorf("%+v: %q, want %q", c.done, got, c.want)
		}
	}
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
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || !cmp.Equal(want, got) || strings.Contains(out.String(),
			"\x1b") {
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
	out := r.want(exitOK, "removals")
	for _, want := range []string{"Directory corp: 4 removals held back: ",
		"yes          approval; would become internal-only\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("removals has no %q:\n%s", want, out)
		}
	}
	held := rows[control.HeldRemoval](r, exitOK, "removals")
	if len(held) != 4 || !held[0].BecomesInternalOnly || !held[0].LastOwner || held[0].WaitsFor != control.WaitsApproval {
		t.Errorf("removals --json gives %+v", held)
	}
	if out := r.want(exitOK, "removals", "approve"); !strings.HasPrefix(out, "corp: 4 addresses removed, by pass ") {
		t.Errorf("removals approve says %q", out)
	}
	if got := r.lookup(exitTemporary, "u0@corp.example"); got.Verdict != "in-grace" || got.Rule != 8 ||
		!strings.HasPrefix(got.Reply, "450 4.1.1 <u0@corp.example>: ") ||
		!slices.ContainsFunc(got.History, func(r control.JournalRow) bool { return r.Change == "-" && r.InternalOnly }) {
		t.Errorf("lookup after the approval gives %+v", got)
	}
	r.want(exitOK, "lookup", "u0@corp.example", "--authenticated")
	restrict()
	r.want(exitOK, "lookup", "u0@corp.example")
	out = r.want(exitOK, "journal", "--since", "1h")
	for _, want := range []string{"- u0@corp.example (internal-only) ",
		"\n+ u0@corp.example (open to outside senders again)   CN=u0"} {
		if !strings.Contains(out, want) {
			t.Errorf("journal has no %q:\n%s", want, out)
		}
	}
	for _, row := range rows[control.JournalRow](r, exitOK, "journal", "--since", "1h") {
		if !row.InternalOnly {
			t.Errorf("journal --json gives %+v", row)
		}
	}
	d.stop()
}
