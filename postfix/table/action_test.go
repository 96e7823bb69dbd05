package table

import (
	"strings"
	"testing"
)

// TestActions checks that a line with an action of access(5) that accepts nothing is reported, and that it counts
// as postmap(1) reads it.
func TestActions(t *testing.T) {
	for _, c := range []struct{ name, text, key, action string }{
		{"reject of a domain", "@a.example REJECT", "@a.example", "REJECT"},
		{"reject of a mailbox", "Ann@a.example\treject no such user", "ann@a.example", "reject"},
		{"defer", "@a.example DEFER", "@a.example", "DEFER"},
		{"defer if permit", "@a.example defer_if_permit later", "@a.example", "defer_if_permit"},
		{"defer if reject", "@a.example DEFER_IF_REJECT", "@a.example", "DEFER_IF_REJECT"},
		{"discard", "@a.example DISCARD", "@a.example", "DISCARD"},
		{"permanent reply", "@a.example 550 5.1.1 No such user", "@a.example", "550"},
		{"temporary reply", "@a.example 450", "@a.example", "450"},
		{"continued line", "@a.example\n  REJECT", "@a.example", "REJECT"},
		{"quoted key", `"a b"@a.example REJECT`, `"a b"@a.example`, "REJECT"},
		{"accepted", "@a.example OK", "@a.example", ""},
		{"no value", "@a.example", "@a.example", ""},
		{"a number", "ann@a.example 1", "ann@a.example", ""},
		{"a long number", "ann@a.example 5500", "ann@a.example", ""},
		{"a code of success", "ann@a.example 250", "ann@a.example", ""},
		{"a word that begins so", "ann@a.example rejected", "ann@a.example", ""},
		{"a mailbox", "ann@a.example reject@b.example", "ann@a.example", ""},
		{"a later word", "ann@a.example OK REJECT", "ann@a.example", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := mustRead(t, "# comment\n"+c.text+"\n")
			first, all := table.Actions()
			if !table.Has(c.key) || all != len(first) || all > 1 || (all == 1) != (c.action != "") {
				t.Fatalf("%q: has the key: %t, actions %v (%d)", c.text, table.Has(c.key), first, all)
			}
			if all == 1 && (first[0].Line != 2 || !strings.Contains(first[0].Text, `"`+c.action+`"`)) {
				t.Errorf("reported as %v, want line 2 and %q", first[0], c.action)
			}
			if _, bad := table.Problems(); bad != 0 {
				t.Errorf("%d invalid lines", bad)
			}
		})
	}
	t.Run("many", func(t *testing.T) {
		first, all := mustRead(t, strings.Repeat("@a.example REJECT\n", 100)).Actions()
		if len(first) != keptProblems || all != 100 {
			t.Errorf("%d of %d", len(first), all)
		}
	})
}

// TestSuspicious checks that lines of both kinds are reported in the order of the file.
func TestSuspicious(t *testing.T) {
	table := mustRead(t, "ann@a.example OK\n@a.example REJECT\nx@y@a.example OK\nbob@a.example 550 no\n")
	first, all := table.Suspicious()
	if all != 3 || len(first) != 3 || first[0].Line != 2 || first[1].Line != 3 || first[2].Line != 4 {
		t.Errorf("%d lines: %v, want 2, 3 and 4", all, first)
	}
	if first, all := mustRead(t, "ann@a.example OK\n").Suspicious(); all != 0 || len(first) != 0 {
		t.Errorf("%d lines of a sound file: %v", all, first)
	}
}
