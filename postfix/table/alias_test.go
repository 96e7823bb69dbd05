package table

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/address"
)

// aliasLines shows the aliases of a table as "line domain > targets".
func aliasLines(t *Table) string {
	var all []string
	for domain, targets := range t.AllAliases() {
		_, line := t.Aliases(domain)
		all = append(all, fmt.Sprintf("%d %s > %s", line, domain, strings.Join(targets, " ")))
	}
	return strings.Join(all, ", ")
}

// TestAliasLines: a line "@a @b" maps a domain to another one, and accepts no address by itself.
// Whatever else stands on the right side names every recipient of the domain.
func TestAliasLines(t *testing.T) {
	for _, c := range []struct{ name, text, keys, aliases, problem string }{
		{"to one domain", "@a.example @b.example\n", "", "1 a.example > b.example", ""},
		{"in any spelling", "@A.Example.\t@BÜCHER.example\r\n", "", "1 a.example > xn--bcher-kva.example", ""},
		{"several", "@a.example @b.example, @c.example @d.example,@b.example", "",
			"1 a.example > b.example c.example d.example", ""},
		{"continued", "@a.example\n  @b.example,\n# c\n  @c.example\n", "", "1 a.example > b.example c.example", ""},
		{"with remarks", "@a.example @b.example (moved (2020)) # and @c.example\n", "", "1 a.example > b.example", ""},
		{"beside addresses", "@a.example @b.example\nann@a.example ann\n", "2 ann@a.example", "1 a.example > b.example",
			""},
		{"itself and another", "@a.example @a.example, @b.example", "", "1 a.example > b.example", ""},
		{"a chain", "@a.example @b.example\n@b.example @c.example\n", "",
			"1 a.example > b.example, 2 b.example > c.example", ""},
		{"a sub-domain", "@a.example @x.a.example", "", "1 a.example > x.a.example", ""},
		{"first alias, then everybody", "@a.example @b.example\n@a.example OK\n", "", "1 a.example > b.example", ""},
		{"first everybody, then alias", "@a.example OK\n@a.example @b.example\n", "1 @a.example", "", ""},
		{"twice", "@a.example @b.example\n@A.example @c.example\n", "", "1 a.example > b.example", ""},

		{"an address takes it all", "@a.example catchall@b.example", "1 @a.example", "", ""},
		{"and one of several does", "@a.example @b.example, archive@c.example", "1 @a.example", "", ""},
		{"OK", "@a.example OK", "1 @a.example", "", ""},
		{"any word", "@a.example x", "1 @a.example", "", ""},
		{"no value", "@a.example", "1 @a.example", "", ""},
		{"a comment only", "@a.example # @b.example", "1 @a.example", "", ""},
		{"a pipe", `@a.example "|/bin/true"`, "1 @a.example", "", ""},
		{"one address to a domain", "ann@a.example @b.example", "1 ann@a.example", "", ""},
		{"one address to another", "ann@a.example ann@b.example", "1 ann@a.example", "", ""},

		{"itself", "@a.example @A.example", "", "", `line 1: "@a.example" maps the domain to itself`},
		{"to nothing", "@a.example @", "", "", `line 1: "@a.example" maps the domain to "@", which is not @domain`},
		{"to sub-domains", "@a.example @.b.example", "", "", `maps the domain to "@.b.example", which is not @domain`},
		{"to a wildcard", "@a.example @*.example", "", "", `maps the domain to "@*.example", which is not @domain`},
		{"of sub-domains", "@.a.example @b.example", "", "", `"@.a.example" is not @domain`},
		{"too many", "@a.example " + strings.Repeat("@b.example, ", keptOfLine), "", "",
			"to more domains than can be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := mustRead(t, c.text)
			problem := ""
			if first, _ := table.Problems(); len(first) > 0 {
				problem = first[0].String()
			}
			if keys(table) != c.keys || aliasLines(table) != c.aliases || !strings.Contains(problem, c.problem) ||
				(problem == "") != (c.problem == "") {
				t.Errorf("Read(%.100q) = keys %q, aliases %q, problem %q, want %q, %q, %q",
					c.text, keys(table), aliasLines(table), problem, c.keys, c.aliases, c.problem)
			}
			if want := strings.Count(c.aliases, ">"); table.AliasCount() != want ||
				c.keys == "" && table.Len() != want {
				t.Errorf("%d aliases, %d entries, want %d", table.AliasCount(), table.Len(), want)
			}
			nobody, _ := address.Parse("nobody@a.example")
			if line := table.Find(nobody); (line != 0) != strings.Contains(c.keys, "@a.example") &&
				!strings.Contains(c.keys, "ann@") {
				t.Errorf("nobody@a.example is found in line %d", line)
			}
		})
	}
}

// TestCopyTargets: a line may map a domain to others and send copies to addresses.
func TestCopyTargets(t *testing.T) {
	for _, c := range []struct{ name, value, targets, others string }{
		{"a domain and an address", "@b.example, x@c.example", "b.example", "x@c.example"},
		{"in any order and spelling", `ann @B.Example. @b.example (and @c.example) "|/bin/true" # x`, "b.example",
			`ann "|/bin/true"`},
		{"itself", "@a.example, @b.example x@c.example", "a.example b.example", "x@c.example"},
		{"a domain that cannot be one", "@.b.example @b.example", "b.example", "@.b.example"},
		{"domains only", "@b.example @c.example", "", ""},
		{"addresses only", "x@b.example OK", "", ""},
		{"no domain that can be one", "@*.example x@c.example", "", ""},
		{"nothing", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			targets, others := CopyTargets(c.value)
			if strings.Join(targets, " ") != c.targets || strings.Join(others, " ") != c.others {
				t.Errorf("CopyTargets(%q) = %q, %q", c.value, targets, others)
			}
		})
	}
}

// TestNeverMatches: entries that can match no recipient are named lines, and do not count.
func TestNeverMatches(t *testing.T) {
	for _, key := range []string{
		"smtp:x@d.example", "SMTP:x@d.example", "sip:x@d.example", "X400:c=us;o=x@d.example", "mailto:x@d.example",
		"https://d.example/@x@d.example", "ldap://dc1/x@d.example", "/^x@d.example$/", "/@d.example$/i", "*@d.example",
		".*@d.example",
		"x@*.d.example", "@*.d.example", "x@d.example$", "a@d.example,b@d.example", "a@d.example;b@d.example",
		"x\u00a0@d.example", "x@d.example\u200b", "\u200bx@d.example", "x", "d.example", "x@", "@", "192.0.2.0/24",
		"x:",
	} {
		table := mustRead(t, "ann@d.example OK\n"+key+" OK\n")
		first, all := table.Problems()
		if all != 1 || first[0].Line != 2 || table.Len() != 1 {
			t.Errorf("%q: problems %v of %d, %d entries", key, first, all, table.Len())
		}
	}
	table := mustRead(t, "smtp:x@d.example OK\n")
	const want = `line 1: "smtp:x@d.example" can never match: ` +
		`the leading "smtp:" is not part of an address; write "x@d.example"`
	if first, _ := table.Problems(); len(first) != 1 || first[0].String() != want {
		t.Errorf("problems %v", first)
	}
}

// TestUnjudged: entries of domains that are not judged are named by domain.
func TestUnjudged(t *testing.T) {
	table := mustRead(t, "ann@a.example\nann@b.example\nbob@b.example\n@c.example OK\n@d.example "+
		"@a.example\nx@B.example\n")
	first, all := table.Unjudged(func(domain string) bool { return domain == "a.example" })
	var lines []string
	for _, p := range first {
		lines = append(lines, p.String())
	}
	const notJudged = "the domain is not judged here; add it to domains, or leave them out"
	want := []string{
		`line 2: 3 entries of domain "b.example" can never match: ` + notJudged,
		`line 4: 1 entry of domain "c.example" can never match: ` + notJudged,
		`line 5: 1 entry of domain "d.example" can never match: ` + notJudged,
	}
	if !slices.Equal(lines, want) || all != 5 {
		t.Errorf("Unjudged gives %d, %q", all, lines)
	}
	if first, all := table.Unjudged(func(string) bool { return true }); len(first)+all != 0 {
		t.Errorf("with all domains judged: %v", first)
	}
	if first, all := (&Table{}).Unjudged(func(string) bool { return false }); len(first)+all != 0 {
		t.Errorf("an empty table: %v", first)
	}
}

// TestTablesAliases: a file of aliases alone is a good file, and all files are asked.
func TestTablesAliases(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	for path, text := range map[string]string{one: "@a.example @b.example, @c.example\n",
		two: "x@x.example\n@a.example @d.example\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tables := NewFiles(Config{})
	p, err := tables.Prepare([]string{one, two})
	if err != nil {
		t.Fatal(err)
	}
	tables.Use(p)
	var got []string
	tables.Aliases("a.example", func(target, file string, line int) {
		got = append(got,
			fmt.Sprint(target, filepath.Base(file), line))
	})
	if want := []string{"b.exampleone1", "c.exampleone1", "d.exampletwo2"}; !slices.Equal(got, want) {
		t.Errorf("Aliases visits %q, want %q", got, want)
	}
	nobody, _ := address.Parse("nobody@a.example")
	if file, line, _ := tables.Find(nobody); line != 0 {
		t.Errorf("nobody@a.example is found in %s:%d", file, line)
	}
	if s := tables.Status(); s[0].Aliases != 1 || s[0].Entries != 1 || s[0].Domains != 0 || s[1].Aliases != 1 ||
		s[1].Entries != 2 {
		t.Errorf("status %+v", s)
	}
}
