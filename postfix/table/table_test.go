package table

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"rcpt-milter/address"
)

func mustRead(t *testing.T, text string) *Table {
	t.Helper()
	table, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// keys shows a table as "line key" pairs.
func keys(t *Table) string {
	var all []string
	for key, line := range t.All() {
		all = append(all, fmt.Sprintf("%d %s", line, key))
	}
	return strings.Join(all, ", ")
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ text, keys, problems string }{
		{"", "", ""},
		{"ann@x.example OK\n", "1 ann@x.example", ""},
		{"ann@x.example\tOK", "1 ann@x.example", ""},
		{"ann@x.example\nbob@x.example\n", "1 ann@x.example, 2 bob@x.example", ""},
		{"Ann@X.Example OK\r\nBOB@x.example OK\r\n", "1 ann@x.example, 2 bob@x.example", ""},
		{"\xef\xbb\xbfann@x.example OK\n", "1 ann@x.example", ""},
		{"# c\n\n  # c\n\t\nann@x.example OK\n", "5 ann@x.example", ""},
		{"ann@x.example OK\n  bob@x.example OK\nc@x.example\n", "1 ann@x.example, 3 c@x.example", ""},
		{"ann@x.example\n# c\n\n  OK\nbob@x.example\n", "1 ann@x.example, 5 bob@x.example", ""},
		{"# c\n ann@x.example OK\nbob@x.example", "3 bob@x.example",
			`line 2: " ann@x.example OK" begins with white space, which would continue a line before it, ` +
				`and there is none`},
		{`"john doe"@x.example OK`, `1 "john doe"@x.example`, ""},
		{`"john.doe"@x.example OK`, `1 john.doe@x.example`, ""},
		{`"a\"b"@x.example OK`, `1 "a\"b"@x.example`, ""},
		{`a\ b@x.example OK`, `1 "a b"@x.example`, ""},
		{`john..doe@x.example OK`, `1 john..doe@x.example`, ""},
		{"@x.example OK\n@X.EXAMPLE OK", "1 @x.example", ""},
		{"@münchen.example\njürgen@münchen.example", "1 @xn--mnchen-3ya.example, 2 jürgen@xn--mnchen-3ya.example", ""},
		{"b@x.example 1\na@x.example 2\nb@x.example 3", "2 a@x.example, 1 b@x.example", ""},
		{"ann@x.example l\xe4t", "1 ann@x.example", ""},
		{"j\xfcrgen@x.example OK\nann@x.example OK", "2 ann@x.example",
			`line 1: "j\xfcrgen@x.example" is not valid UTF-8; save the file as UTF-8`},
		{"\"ann@x.example OK\nbob@x.example OK", "2 bob@x.example",
			`line 1: "\"ann@x.example OK" has a quote that is not closed`},
		{"ann OK", "", `line 1: "ann" is neither user@domain nor @domain`},
		{"x.example OK", "", `line 1: "x.example" is neither user@domain nor @domain`},
		{"ann: bob", "",
			`line 1: "ann:" is a line of an alias file, which holds local users; expected user@domain or @domain`},
		{"ann@ OK", "", `line 1: "ann@": not a mailbox address: domain with an empty label`},
		{"@a b", "1 @a", ""},
		{"@.x.example OK", "",
			`line 1: "@.x.example" is not @domain: not a mailbox address: domain with an empty label`},
		{"<ann@x.example> OK", "", `line 1: "<ann@x.example>": not a mailbox address: '<' outside quotes`},
		{"a\x00b@x.example OK", "", `line 1: "a\x00b@x.example": not a mailbox address: control character`},
		{"\x1b[2J@x.example OK", "", `line 1: "\x1b[2J@x.example": not a mailbox address: control character`},
		{strings.Repeat("a", keptOfLine+9) + "@x.example OK\nann@x.example", "2 ann@x.example",
			`line 1: "` + strings.Repeat("a", 80) + `"... is too long for an address`},
		{"list@x.example " + strings.Repeat("a@x.example, ", 10000) + "\nann@x.example",
			"2 ann@x.example, 1 list@x.example", ""},
	} {
		table := mustRead(t, c.text)
		first, all := table.Problems()
		var problems []string
		for _, p := range first {
			problems = append(problems, p.String())
		}
		if got := strings.Join(problems, "; "); keys(table) != c.keys || got != c.problems || all != len(first) {
			t.Errorf("Read(%.200q) = %q, %q (%d), want %q, %q", c.text, keys(table), got, all, c.keys, c.problems)
		}
	}
}

// TestReadAsPostmap compares with what the real postmap(1) 3.7 makes of the same files:
// `postmap -s` of a table built of them.
func TestReadAsPostmap(t *testing.T) {
	ours := map[string]bool{ // what we read, and postmap does not
		"nokeyvalue@x.example": true, // it has no value
	}
	theirs := map[string]bool{ // the reverse: of no use in a list of addresses
		"alias:": true, "bare": true, `"x y"`: true,
	}
	files, err := filepath.Glob("testdata/tables/*.postmap")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		table, err := ReadFile(strings.TrimSuffix(file, ".postmap"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(ours)
		for line := range strings.Lines(string(text)) {
			key, _, _ := strings.Cut(line, "\t")
			if a, err := address.Parse(key); err == nil {
				key = a.String()
			}
			want[key] = true
		}
		maps.DeleteFunc(want, func(key string, _ bool) bool { return theirs[key] })
		got := map[string]bool{}
		for key := range table.All() {
			got[key] = true
		}
		if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
			t.Errorf("%s: we read\n%q, postmap\n%q", file, a, b)
		}
	}
}

func TestReadErrors(t *testing.T) {
	for _, text := range []string{"\xff\xfea\x00", "\xfe\xff\x00a"} {
		if _, err := Read(strings.NewReader(text)); !errors.Is(err, ErrNotTable) {
			t.Errorf("Read(%q): %v, want ErrNotTable", text, err)
		}
	}
	broken := errors.New("broken")
	failing := io.MultiReader(strings.NewReader("ann@x.example OK\n"), iotest.ErrReader(broken))
	if _, err := Read(failing); !errors.Is(err, broken) {
		t.Errorf("Read of a reader that fails: %v", err)
	}
	if _, err := ReadFile(t.TempDir()); !errors.Is(err, ErrNotTable) {
		t.Errorf("ReadFile of a directory: %v", err)
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadFile of nothing: %v", err)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	table := mustRead(t, strings.Repeat("nobody\n", 1000)+"ann@x.example\n")
	if first, all := table.Problems(); len(first) != keptProblems || all != 1000 || table.Len() != 1 {
		t.Errorf("%d problems of %d, %d entries", len(first), all, table.Len())
	}
}

func TestFind(t *testing.T) {
	table := mustRead(t, "ann@x.example\n@y.example\n\"john doe\"@x.example\nbob@y.example\n")
	if table.Len() != 4 || table.Domains() != 1 {
		t.Errorf("%d entries, %d of them domains", table.Len(), table.Domains())
	}
	for _, c := range []struct {
		address string
		line    int
	}{
		{"ann@x.example", 1}, {"Ann@X.Example", 1}, {"anna@x.example", 0}, {"an@x.example", 0},
		{"anybody@y.example", 2}, {"bob@y.example", 4}, {`"john doe"@x.example`, 3}, {"x@sub.y.example",
			0}, {"zoe@z.example", 0}, {`"a@b"@y.example`, 2},
	} {
		a, err := address.Parse(c.address)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.Find(a); got != c.line {
			t.Errorf("Find(%q) = %d, want %d", c.address, got, c.line)
		}
	}
	if table.Find(address.Address{}) != 0 || (&Table{}).Find(address.Address{}) != 0 {
		t.Error("no address is found")
	}
}

// FuzzRead: whatever is in a file, what is read of it is found again under its line, in
// order, and no line that counts is a problem as well.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"a@b OK\n", "\xef\xbb\xbf@b\r\n", "\"a b\"@c x\n y\n#\n z\n", " a\nb@c", "a\\",
		"a: b", "\"", "@", "\xff\xfe", "a@b\x00c d\n", "@a @b, @c\n@c @a", "@a @b\n@a x\nsmtp:x@y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Read(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrNotTable) {
				t.Fatalf("Read(%q): %v", text, err)
			}
			return
		}
		last, lines, domains := "", 1+strings.Count(text, "\n"), 0
		for key, line := range table.All() {
			if key <= last || line < 1 || line > lines || !table.Has(key) {
				t.Fatalf("Read(%q): key %q of line %d after %q", text, key, line, last)
			}
			last = key
			if key[0] == '@' {
				domains++
			} else if a, err := address.Parse(key); err != nil || a.String() != key || table.Find(a) != line {
				t.Fatalf("Read(%q): %q is not found in line %d (%v)", text, key, line, err)
			}
		}
		for domain, targets := range table.AllAliases() {
			a, err := address.Parse("x@" + domain)
			if err != nil || len(targets) == 0 || slices.Contains(targets, domain) || table.Has("@"+domain) ||
				table.Find(a) != 0 && !table.Has(a.String()) {
				t.Fatalf("Read(%q): %q is an alias of %q (%v)", text, domain, targets, err)
			}
		}
		first, all := table.Problems()
		if domains != table.Domains() || all+table.Len() > lines || len(first) > all {
			t.Fatalf("Read(%q): %d domains, %d entries, %d problems, %d lines", text, table.Domains(), table.Len(), all,
				lines)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var text strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "first.last%07d@corp.example OK\n", i)
	}
	table, err := Read(strings.NewReader(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	a, _ := address.Parse("first.last0777777@corp.example")
	b.ReportAllocs()
	for b.Loop() {
		if table.Find(a) == 0 {
			b.Fatal("not found")
		}
	}
}

// TestLiteral: a line with a key that was probably not intended as it reads counts, and is reported.
func TestLiteral(t *testing.T) {
	for _, c := range []struct{ name, text, keys, reported string }{
		{"two @", "ann@@x.example OK", `1 "ann@"@x.example`, "one @ too many"},
		{"two domains", "ann@x@x.example OK", `1 "ann@x"@x.example`, "one @ too many"},
		{"two with a bar", "ann@x.example|bob@x.example", `1 "ann@x.example|bob"@x.example`, "several addresses"},
		{"a colon in front", ":ann@x.example OK", `1 ":ann"@x.example`, "the leading colon"},
		{"in quotes", `"a@b"@x.example OK`, `1 "a@b"@x.example`, ""},
		{"address", "ann@x.example OK", "1 ann@x.example", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := mustRead(t, c.text)
			first, all := table.Literal()
			if got := keys(table); got != c.keys || all != len(first) || (all == 1) != (c.reported != "") {
				t.Fatalf("keys %s, want %s; reported %v (%d)", got, c.keys, first, all)
			}
			if all == 1 && (first[0].Line != 1 || !strings.Contains(first[0].Text, c.reported)) {
				t.Errorf("reported as %v, want %q", first[0], c.reported)
			}
			if _, bad := table.Problems(); bad != 0 {
				t.Errorf("%d invalid lines", bad)
			}
		})
	}
}
