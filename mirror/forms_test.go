package mirror

import (
	"slices"
	"strings"
	"testing"

	"rcpt-milter/address"
	"rcpt-milter/testenv"
)

// TestFormsMeetTheIndex checks that each recipient that Postfix passes on is found, in every spelling, if a
// directory has it in canonical form or without the quotes that mail needs.
func TestFormsMeetTheIndex(t *testing.T) {
	forms, err := testenv.ReadForms("../testenv/testdata/forms.txt")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, f := range forms {
		asked, err := address.Parse(f.Canonical)
		if err != nil {
			continue
		}
		if _, odd := address.FirstInvisible(f.Canonical); odd { // not indexed, but reported
			if list, reason := readValue(values("smtp:" + f.Canonical)[0]); len(list) > 0 || reason == "" {
				t.Errorf("line %d: %q is indexed as %v (%s)", f.Line, f.Canonical, list, reason)
			}
			continue
		}
		for _, held := range []string{f.Canonical, unquotedLocal(asked)} {
			if held == "" {
				continue
			}
			tried++
			if list, reason := readValue(values("smtp:" + held)[0]); !slices.Contains(list, asked) {
				t.Errorf("line %d: %q is indexed as %v (%s), and asked for as %q", f.Line, held, list, reason, asked)
			}
		}
	}
	if tried < 150 {
		t.Errorf("%d values were tried", tried)
	}
}

// unquotedLocal returns an address without quotes, as a directory may have it. It returns an empty string if
// that would have another meaning.
func unquotedLocal(a address.Address) string {
	content := a.Unquoted()
	if content == "" || strings.ContainsAny(content, "@") || strings.TrimSpace(content) != content ||
		content[0] == '"' {
		return ""
	}
	return content + "@" + a.Domain()
}
