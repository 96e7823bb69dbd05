package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
)

// comparedTable is what compare --table --json prints.
type comparedTable struct {
	Differences []tableDifference
	Table       tableCompared
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
		if (d.Cause == causeRemoved) == d.Removed.IsZero() || d.InIndex == d.InTable || d.InTable != (d.Line > 0) {
			t.Errorf("difference %+v", d)
		}
	}
	for address, cause := range map[string]string{"stale@corp.example": causeUnknown, "left@corp.example": causeRemoved, "listed@corp.example": causeListed,
		"postmaster@corp.example": causeAlways, "@report.example": causeDomain, "jane.doe@corp.example": causeMissing} {
		if causes[address] != cause {
			t.Errorf("%s: %q, want %q", address, causes[address], cause)
		}
		delete(causes, address)
	}
	if len(causes) > 0 {
		t.Errorf("reported too: %v", causes)
	}
	if c := got.Table; c.Entries != 7 || c.Recipients != 3 || c.Common != 1 || c.TableOnly != 4 || c.IndexOnly != 1 || c.Unjudged != 1 || c.Unread != 1 || c.Equal {
		t.Errorf("the table: %+v", c)
	}
	out := r.want(exitFailure, "compare", "--table", file)
	for _, want := range []string{"stale@corp.example        table only   3      nobody in the directories has it\n", "left the directories 20", "jane.doe@corp.example     index only          refused where the table is in force\n",
		file + ": 7 entries, 1 in both, 4 in the table only, 1 in the index only\n", "1 entry is of domains that are not judged here\n", "does not count: line 9: \"spoilt\" is neither"} {
		if !strings.Contains(out, want) {
			t.Errorf("compare --table has no %q:\n%s", want, out)
		}
	}

	// What is exported is equal.
	r.edit("accept_files: ["+file+"]\n", "")
	r.edit("accept: [listed@corp.example]\n", "")
	r.want(exitOK, "reload")
	r.want(exitOK, "export", "--output", r.dir+"/exported")
	if out := r.want(exitOK, "compare", "--table", r.dir+"/exported"); !strings.Contains(out, "3 in both, 0 in the table only, 0 in the index only") {
		t.Errorf("compare with what was exported says\n%s", out)
	}
	r.want(exitTemporary, "compare", "--table", r.dir+"/none")
	r.want(exitUsage, "compare", "--table", file, "--directory", "corp")
}

// fakeIndex is a daemon with an index and a verdict for each address that the index lacks.
type fakeIndex struct {
	reader
	recipients []string
	answers    map[string]control.LookupAnswer
}

func (f fakeIndex) Export(_ context.Context, _ control.ExportQuery, tell func(control.ExportEvent) error) error {
	all := []control.Recipient{{Address: "jim@corp.example", Source: control.SourceAccept}} // no part of the index
	for _, address := range f.recipients {
		all = append(all, control.Recipient{Address: address, Source: control.SourceIndex})
	}
	return tell(control.ExportEvent{Recipients: all})
}

func (f fakeIndex) Lookup(_ context.Context, q control.LookupQuery) (control.LookupAnswer, error) {
	return f.answers[strings.TrimPrefix(q.Address, compareProbe)], nil
}

func TestTableComparison(t *testing.T) {
	answers := map[string]control.LookupAnswer{
		"b@corp.example":           {Verdict: "unknown"},
		"gone@corp.example":        {Verdict: "unknown", Removed: before(0)},
		"postmaster@corp.example":  {Verdict: "always"},
		"x@elsewhere.example":      {Verdict: "not-ours"},
		"broken@corp.example":      {Verdict: "error"},
		"a@alias.example":          {Verdict: "known", JudgedAs: "a@corp.example", Owners: make([]control.Owner, 1)},
		"@whole.example":           {Verdict: "unknown"},
		"@foreign.example":         {Verdict: "not-ours"},
		"@configured.example":      {Verdict: "unknown", AliasedBy: "domain_aliases"},
		"@not-configured.example":  {Verdict: "unknown"},
		"@elsewhere-alias.example": {Verdict: "not-ours"},
	}
	for _, c := range []struct {
		name    string
		index   string // addresses
		table   string // keys
		want    []string
		summary string // common, table only, index only, unjudged
	}{
		{"both empty", "", "", nil, "0 0 0 0"},
		{"equal", "a@corp.example c@corp.example", "a@corp.example c@corp.example", nil, "2 0 0 0"},
		{"missing in the table", "a@corp.example c@corp.example", "c@corp.example", []string{"a@corp.example missing"}, "1 0 1 0"},
		{"unknown to the index", "a@corp.example", "a@corp.example b@corp.example", []string{"b@corp.example unknown"}, "1 1 0 0"},
		{"both sides end", "a@corp.example z@corp.example", "b@corp.example",
			[]string{"a@corp.example missing", "b@corp.example unknown", "z@corp.example missing"}, "0 1 2 0"},
		{"removed", "", "gone@corp.example", []string{"gone@corp.example removed"}, "0 1 0 0"},
		{"always accepted", "", "postmaster@corp.example", []string{"postmaster@corp.example always"}, "0 0 0 0"},
		{"not judged", "", "x@elsewhere.example @foreign.example", nil, "0 0 0 2"},
		{"internal error", "", "broken@corp.example", []string{"broken@corp.example error"}, "0 1 0 0"},
		{"known by an alias", "", "a@alias.example", nil, "1 0 0 0"},
		{"whole domain", "a@whole.example", "@whole.example", []string{"@whole.example domain"}, "0 1 0 0"},
		{"aliases", "", "@configured.example=@corp.example @not-configured.example=@corp.example @elsewhere-alias.example=@corp.example",
			[]string{"@not-configured.example alias"}, "1 1 0 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var text strings.Builder
			for _, entry := range strings.Fields(c.table) {
				key, value, alias := strings.Cut(entry, "=")
				if !alias {
					value = "OK"
				}
				fmt.Fprintln(&text, key, value)
			}
			table, err := tables.Read(strings.NewReader(text.String()))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			comparison := tableComparison{ctx: t.Context(), table: table, from: fakeIndex{recipients: strings.Fields(c.index), answers: answers},
				show: func(d tableDifference) error { got = append(got, d.Address+" "+d.Cause); return nil }}
			if err := comparison.run(); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("differences (-want +got):\n%s", d)
			}
			done := comparison.done
			if summary := fmt.Sprint(done.Common, done.TableOnly, done.IndexOnly, done.Unjudged); summary != c.summary {
				t.Errorf("common, table only, index only, unjudged: %s, want %s", summary, c.summary)
			}
		})
	}
}
