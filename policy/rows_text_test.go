package policy

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRowsAreDocumented checks that docs/flow.md has the table of Rows, line by line.
func TestRowsAreDocumented(t *testing.T) {
	document, err := os.ReadFile("../docs/flow.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile(`(?m)^ *\| \d+ \|.*$`).FindAllString(string(document), -1)
	for i, row := range Rows() {
		t.Run(fmt.Sprintf("row %d", row.Number), func(t *testing.T) {
			var verdicts []string
			for _, v := range row.Verdicts {
				verdicts = append(verdicts, "`"+string(v)+"`")
			}
			want := fmt.Sprintf("| %d | %s | %s | %s |", row.Number, row.Condition, row.Reply,
				strings.Join(verdicts, ", "))
			if i >= len(documented) || strings.TrimSpace(documented[i]) != want {
				t.Errorf("docs/flow.md has no line %s, or at another place: %q", want, documented)
			}
		})
	}
	if len(documented) != len(Rows()) {
		t.Errorf("docs/flow.md has %d rows, want %d", len(documented), len(Rows()))
	}
}

// TestRowsAreDecided checks that decide has one guard clause for each of Rows, in this order.
func TestRowsAreDecided(t *testing.T) {
	source, err := os.ReadFile("decide.go")
	if err != nil {
		t.Fatal(err)
	}
	decided := regexp.MustCompile(`(?m)^\t// Row (\d+: [^.\n]*)\.`).FindAllStringSubmatch(string(source), -1)
	for i, row := range Rows() {
		t.Run(fmt.Sprintf("row %d", row.Number), func(t *testing.T) {
			if want := fmt.Sprintf("%d: %s", row.Number, row.Condition); i >= len(decided) || decided[i][1] != want {
				t.Errorf("no clause %q as number %d of decide", want, i+1)
			}
		})
	}
	if len(decided) != len(Rows()) {
		t.Errorf("decide has %d rows, want %d", len(decided), len(Rows()))
	}
}

// TestRowsGiveVerdicts checks that every decision matches a row of Rows, with its reply in mode enforce, and
// that every verdict of a row occurs.
func TestRowsGiveVerdicts(t *testing.T) {
	p, seen := fullPolicy(t, nil), map[Verdict]bool{VerdictError: true}
	for _, c := range fullDecisions {
		q, _ := fullQuery(t, c.recipient)
		d := p.Decide(t.Context(), q)
		if d.Verdict == VerdictError && d.Row == 0 {
			continue
		}
		seen[d.Verdict] = true
		row := Rows()[d.Row-1]
		reply := d.Enforced().String()
		if !d.Enforced().IsContinue() {
			reply = reply[:len("550 5.1.1")]
		}
		if !slices.Contains(row.Verdicts, d.Verdict) || !strings.Contains(row.Reply, reply) {
			t.Errorf("Decide(%q) = row %d, %s, %s; the row has %v, %s", c.recipient, d.Row, d.Verdict, reply,
				row.Verdicts, row.Reply)
		}
	}
	for _, v := range Verdicts() {
		if !seen[v] {
			t.Errorf("no row gives %s", v)
		}
	}
}
