package main

import (
	"encoding/json"
	"strings"
	"testing"

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
		if (d.Cause == daemon.TableRemoved) == d.Removed.IsZero() || d.InIndex == d.InTable || d.InTable != (d.Line > 0) {
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
	out := r.want(exitFailure, "compare", "--table", file)
	for _, want := range []string{"stale@corp.example        table only   3      not in any directory\n",
		"left the directories 20", "jane.doe@corp.example     index only          rejected by the table\n",
		file + ": 7 entries, 1 in both, 4 in the table only, 1 in the index only\n",
		"1 entry is of domains that are not judged here\n", "does not count: line 9: \"spoilt\" is neither"} {
		if !strings.Contains(out, want) {
			t.Errorf("compare --table has no %q:\n%s", want, out)
		}
	}

	// What is exported is equal.
	r.edit("accept_files: ["+file+"]\n", "")
	r.edit("accept: [listed@corp.example]\n", "")
	r.want(exitOK, "reload")
	r.want(exitOK, "export", "--output", r.dir+"/exported")
	if out := r.want(exitOK, "compare", "--table", r.dir+"/exported"); !strings.Contains(out,
		"3 in both, 0 in the table only, 0 in the index only") {
		t.Errorf("compare with what was exported says\n%s", out)
	}
	r.want(exitTemporary, "compare", "--table", r.dir+"/none")
	r.want(exitUsage, "compare", "--table", file, "--directory", "corp")
}
