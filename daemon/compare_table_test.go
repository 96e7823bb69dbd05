package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
)

// fakeIndex is a daemon with an index, and with a verdict for each address that is not in the index.
type fakeIndex struct {
	Reader
	recipients []string
	answers    map[string]control.LookupAnswer
}

func (f fakeIndex) Export(_ context.Context, _ control.ExportQuery, tell func(control.ExportEvent) error) error {
	all := []control.Recipient{{Address: "jim@corp.example", Source: control.SourceAccept}} // not in the index
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
		"b@corp.example":          {Verdict: "unknown"},
		"gone@corp.example":       {Verdict: "unknown", Removed: before(0)},
		"postmaster@corp.example": {Verdict: "always"},
		"x@elsewhere.example":     {Verdict: "not-ours"},
		"broken@corp.example":     {Verdict: "error"},
		"a@alias.example":         {Verdict: "known", JudgedAs: "a@corp.example", Owners: make([]control.Owner, 1)},
		"a+x@corp.example": {Verdict: "known", Canonical: "a+x@corp.example", Matched: "a@corp.example",
			Owners: make([]control.Owner, 1)},
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
		{"missing in the table", "a@corp.example c@corp.example", "c@corp.example", []string{"a@corp.example missing"},
			"1 0 1 0"},
		{"unknown to the index", "a@corp.example", "a@corp.example b@corp.example", []string{"b@corp.example unknown"},
			"1 1 0 0"},
		{"both sides end", "a@corp.example z@corp.example", "b@corp.example",
			[]string{"a@corp.example missing", "b@corp.example unknown", "z@corp.example missing"}, "0 1 2 0"},
		{"removed", "", "gone@corp.example", []string{"gone@corp.example removed"}, "0 1 0 0"},
		{"always accepted", "", "postmaster@corp.example", []string{"postmaster@corp.example always"}, "0 0 0 0"},
		{"not judged", "", "x@elsewhere.example @foreign.example", nil, "0 0 0 2"},
		{"internal error", "", "broken@corp.example", []string{"broken@corp.example error"}, "0 1 0 0"},
		{"known by an alias", "", "a@alias.example", nil, "1 0 0 0"},
		{"known without its extension", "a@corp.example", "a+x@corp.example a@corp.example", nil, "2 0 0 0"},
		{"whole domain", "a@whole.example", "@whole.example", []string{"@whole.example domain"}, "0 1 0 0"},
		{"aliases", "", "@configured.example=@corp.example @not-configured.example=@corp.example " +
			"@elsewhere-alias.example=@corp.example",
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
			from := fakeIndex{recipients: strings.Fields(c.index), answers: answers}
			done, err := CompareTable(t.Context(), from, "relay_recipients", table, func(d TableDifference) error {
				got = append(got, d.Address+" "+d.Cause)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("differences (-want +got):\n%s", d)
			}
			if summary := fmt.Sprint(done.Common, done.TableOnly, done.IndexOnly, done.Unjudged); summary != c.summary {
				t.Errorf("common, table only, index only, unjudged: %s, want %s", summary, c.summary)
			}
		})
	}
}
