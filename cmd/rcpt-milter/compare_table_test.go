package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"rcpt-milter/daemon"
)

// comparedTable is what compare --table --json prints.
type comparedTable struct {
	Differences []daemon.TableDifference
	Table       daemon.ComparedTable
}

// TestCompareTable: an old table with stale and missing entries, while it is in
// accept_files as well.
func TestCompareTable(t *testing.T) {
	r := newRig(t, "accept: [listed@corp.example]")
	file := r.write("relay_recipients", "# made last night\n"+
		"jane@corp.example OK\n"+ // in both; jane.doe is missing
		"stale@corp.example OK\n"+
		"left@corp.example OK\n"+
		"listed@corp.example OK\n"+
		"postmaster@corp.example OK\n"+
		"x@elsewhere.example OK\n"+
		"@report.example OK\n"+
		"spoilt OK\n")
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept_files: ["+file+"]\n")
	left := r.addUser("left", "smtp:left@corp.example")
	r.addUser("covered", "smtp:covered@report.example")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	r.delete(left)
	r.want(exitOK, "sync", "--wait")

	_, stdout, _ := r.command("compare", "--table", file, "--json")
	var got comparedTable
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in\n%s", err, stdout)
	}
	causes := map[string]string{}
	for _, d := range got.Differences {
		causes[d.Address] = d.Cause
		if (d.Cause == daemon.TableRemoved) == d.Removed.IsZero() || d.InIndex == d.InTable ||
			d.InTable != (d.Line > 0) {
			t.Errorf("difference %+v", d)
		}
	}
	for address, cause := range map[string]string{"stale@corp.example": daemon.TableUnknown,
		"left@corp.example": daemon.TableRemoved, "listed@corp.example": daemon.TableListed,
		"postmaster@corp.example": daemon.TableAlways, "@report.example": daemon.TableDomain,
		"jane.doe@corp.example": daemon.TableMissing} {
		if causes[address] != cause {
			t.Errorf("%s: %q, want %q", address, causes[address], cause)
		}
		delete(causes, address)
	}
	if len(causes) > 0 {
		t.Errorf("reported too: %v", causes)
	}
	if c := got.Table; c.Entries != 7 || c.Recipients != 3 || c.Common != 1 || c.TableOnly != 4 || c.IndexOnly != 1 ||
		c.Unjudged != 1 || c.Unread != 1 || c.Equal {
		t.Errorf("the table: %+v", c)
	}
	if lines := got.Table.UnreadLines; len(lines) != 1 || !strings.Contains(lines[0], "9") ||
		!strings.Contains(lines[0], `"spoilt"`) {
		t.Errorf("unread lines: %q", lines)
	}
	out := r.want(exitFailure, "compare", "--table", file)
	for _, want := range []string{file, "stale@corp.example", "jane.doe@corp.example", `"spoilt"`} {
		if !strings.Contains(out, want) {
			t.Errorf("compare --table has no %q:\n%s", want, out)
		}
	}

	// What is exported is equal.
	r.edit("accept_files: ["+file+"]\n", "")
	r.edit("accept: [listed@corp.example]\n", "")
	r.want(exitOK, "reload")
	r.want(exitOK, "export", "--output", r.dir+"/exported")
	got = comparedTable{}
	if err := json.Unmarshal([]byte(r.want(exitOK, "compare", "--table", r.dir+"/exported", "--json")),
		&got); err != nil {
		t.Fatal(err)
	}
	if c := got.Table; c.Common != 3 || c.TableOnly != 0 || c.IndexOnly != 0 || !c.Equal {
		t.Errorf("compared with what was exported: %+v", c)
	}
	r.want(exitTemporary, "compare", "--table", r.dir+"/none")
	r.want(exitUsage, "compare", "--table", file, "--directory", "corp")
}

// TestCompareTablePage: what is printed of each cause.
func TestCompareTablePage(t *testing.T) {
	a, out := pageApp()
	p := &tablePage{app: a}
	for i, d := range []daemon.TableDifference{
		{Address: "stale@x.test", Cause: daemon.TableUnknown},
		{Address: "left\x1b@x.test", Cause: daemon.TableRemoved, Removed: before(time.Hour)},
		{Address: "listed@x.test", Cause: daemon.TableListed},
		{Address: "star@x.test", Cause: daemon.TableListed, Entry: "*@x.test"},
		{Address: "postmaster@x.test", Cause: daemon.TableAlways},
		{Address: "@y.test", Cause: daemon.TableDomain},
		{Address: "@z.test", Cause: daemon.TableAlias, Entry: "x.test"},
		{Address: "new@x.test", Cause: daemon.TableMissing, InIndex: true},
	} {
		if d.InTable = !d.InIndex; d.InTable {
			d.Line = i + 1
		}
		if err := p.add(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.end(daemon.ComparedTable{File: "relay_recipients", Entries: 1234, Recipients: 3, Common: 1,
		TableOnly: 4, IndexOnly: 1, Unjudged: 1, Unread: 3, UnreadLines: []string{"line 9: \x1b"}}); err != nil {
		t.Fatal(err)
	}
	compare(t, "compare-table.txt", out.String())
}
