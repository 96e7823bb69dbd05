package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// aliasFile is a configuration with these domains, aliases, and domains of its directory.
func aliasFile(domains, aliases, owned string) string {
	return "domains: {" + domains + "}\ndomain_aliases: {" + aliases + "}\ndirectories:\n" +
		"  - {name: corp, domains: [" + owned + "], urls: [ldaps://dc1.corp.example], bind: {dn: " +
		"svc-mail@corp.example, password_file: /etc/rcpt-milter/password}}\n"
}

// TestAliases: which aliases a configuration may have, and what is said of others.
func TestAliases(t *testing.T) {
	for _, c := range []struct{ name, domains, aliases, owned, want string }{
		{"both judged", "a.example: enforce, b.example: enforce", "a.example: b.example", "", ""},
		{"the target is in the directory only", "a.example: enforce", "a.example: internal.example", "", ""},
		{"by the entry of the parent", ".example: report", "a.example: b.test", "", ""},
		{"the alias is passed for a while", "a.example: pass, b.example: enforce", "a.example: b.example", "", ""},
		{"a chain", "a.example: enforce, b.example: enforce", "a.example: b.example, b.example: c.example", "", ""},
		{"the directory owns the target only", "a.example: enforce", "a.example: b.example", "b.example", ""},
		{"the directory owns the end of a chain only", "a.example: enforce, b.example: enforce",
			"a.example: b.example, b.example: c.example", "c.example", ""},
		{"the directory owns the alias only", "a.example: enforce", "a.example: b.example", "a.example", ""},
		{"no directory owns either", "a.example: enforce", "a.example: b.example", "c.example",
			`no directory owns "a.example"`},
		{"not judged", "b.example: enforce", "a.example: b.example", "", `"a.example" has no entry in domains`},
		{"the second of two is not judged", "a.example: enforce", "a.example: b.example, b.example: c.example", "",
			`"b.example" has no entry in domains`},
		{"a circle of two", "a.example: enforce, b.example: enforce", "a.example: b.example, b.example: a.example", "",
			`"a.example" leads into a loop (a.example → b.example → a.example)`},
		{"into a circle", ".example: enforce", "a.example: b.example, b.example: c.example, c.example: b.example", "",
			`"a.example" leads into a loop (a.example → b.example → c.example → b.example)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("config.yaml", []byte(aliasFile(c.domains, c.aliases, c.owned)))
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) ||
				!strings.HasPrefix(err.Error(), "config.yaml:")) {
				t.Errorf("Parse gives %v, want %q", err, c.want)
			}
		})
	}
}

// TestAliasesOfReload: both keys are in effect with a reload, and named by it.
func TestAliasesOfReload(t *testing.T) {
	before, err := Parse("config.yaml", []byte(aliasFile("a.example: enforce", "", "")))
	if err != nil {
		t.Fatal(err)
	}
	after, err := Parse("config.yaml", []byte("inside: {networks: [10.0.0.0/8]}\n"+
		aliasFile("a.example: enforce", "a.example: b.example", "")))
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Changes(before); !slices.Equal(got, []string{"domain_aliases", "inside"}) {
		t.Errorf("changes: %q", got)
	}
	next, restart := after.WithRestartKeysOf(before)
	if len(restart) > 0 || next.DomainAliases["a.example"] != "b.example" ||
		!slices.Equal(next.Inside.Networks, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}) {
		t.Errorf("needs a restart: %q; in effect %v, %v", restart, next.DomainAliases, next.Inside)
	}
}
