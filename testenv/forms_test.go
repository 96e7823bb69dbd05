package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/address"
)

// How the program parses every form, with and without the parsing of Postfix.
func TestForms(t *testing.T) {
	forms, err := ReadForms(filepath.Join("testdata", "forms.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(forms) < 120 {
		t.Errorf("%d forms, want 120 at least", len(forms))
	}
	seen := map[string]int{}
	for _, f := range forms {
		if line, twice := seen[f.Argument]; twice {
			t.Errorf("line %d: %s is in line %d already", f.Line, f.Argument, line)
		}
		seen[f.Argument] = f.Line
		asked, _ := address.ParsePath(f.Argument)
		if asked.String() != f.Alone {
			t.Errorf("line %d: ParsePath(%q) = %q, want %q", f.Line, f.Argument, asked, f.Alone)
		}
		read, _ := address.Parse(f.Macro)
		if got := read.WithDomainOf(asked).String(); got != f.Canonical {
			t.Errorf("line %d: Parse(%q) with the domain of %q = %q, want %q", f.Line, f.Macro, f.Argument, got,
				f.Canonical)
		}
		// If both can be parsed they are the same mailbox, except when Postfix rewrites the
		// address.
		if f.Macro != "" && f.Alone != "" && f.Alone != f.Canonical && !strings.Contains(f.Argument, ";") {
			t.Errorf("line %d: %s is %q with the macro and %q without", f.Line, f.Argument, f.Canonical, f.Alone)
		}
	}
}

func TestReadForms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forms.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# a comment\n\n<e{U+0301}@x>\te{U+0301}@x\té@x\n<b>\tb@y\tb@y\t-\n#c@x\t-\t-\t#c@x\n")
	got, err := ReadForms(path)
	want := []Form{
		{3, "<e\u0301@x>", "e\u0301@x", "é@x", "é@x"},
		{4, "<b>", "b@y", "b@y", ""},
		{5, "#c@x", "", "", "#c@x"},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("ReadForms = %+v, %v, want %+v", got, err, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("form %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	write("<a@x>\ta@x\n")
	if _, err := ReadForms(path); err == nil || !strings.Contains(err.Error(), ":1: expected 3 or 4 columns") {
		t.Errorf("ReadForms of two columns: %v", err)
	}
}
