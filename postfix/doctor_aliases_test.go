package postfix

import (
	"slices"
	"strings"
	"testing"
)

// TestCopies: a whole domain may have several targets, and addresses that get a copy of its mail.
func TestCopies(t *testing.T) {
	const (
		file   = "hash:/etc/postfix/virtual"
		inline = "inline:{virtual}"
		every  = `to accept every recipient, as Postfix does, in config.yaml: accept: ["@example.org"]`
	)
	for _, c := range []struct {
		name, table, value string
		plant              func(*scene)
		want, text         string
		fix                []string
	}{
		{"a domain and an archive", file, "@example.com, archive@example.com", func(*scene) {}, "domain-rewritten",
			file + ", of virtual_alias_maps, maps @example.org to another domain and to archive@example.com",
			[]string{"if archive@example.com gets copies only, in config.yaml: domain_aliases: {example.org: " +
				"example.com}", every}},
		{"an archive and a domain", file, "archive@example.com @Example.COM.", func(*scene) {}, "domain-rewritten",
			"to archive@example.com", nil},
		{"a domain, a local user and a pipe", file, `@example.com ann "|/bin/true"`, func(*scene) {},
			"domain-rewritten", "", nil},
		{"two domains and an archive", file, "@example.com, @b.test, archive@example.com", func(*scene) {},
			"domain-rewritten", "", []string{"if archive@example.com gets copies only, in a file of accept_files: " +
				"@example.org @example.com, @b.test", every}},
		{"itself, a domain and an archive", file, "@example.org, @example.com, archive@example.com", func(*scene) {},
			"domain-rewritten", "", []string{"if archive@example.com gets copies only, in config.yaml: " +
				"domain_aliases: {example.org: example.com}", every}},
		{"itself and an archive", file, "@example.org, archive@example.com", func(*scene) {}, "(domain-rewritten)",
			"sends mail for @example.org also to archive@example.com",
			[]string{"to accept every recipient, as Postfix " + `does, in config.yaml: accept: ["@example.org"]`}},
		{"a domain and an archive, of a known alias", file, "@example.com, archive@example.com", func(s *scene) {
			s.Aliases = map[string][]string{"example.org": {"example.com"}}
		}, "", "", nil},
		{"a domain and an archive, all accepted", file, "@example.com, archive@example.com", func(s *scene) {
			s.known["@example.org"] = false
		}, "", "", nil},
		{"a domain that cannot be read, and an archive", file, "@.example.com, archive@example.com", func(*scene) {},
			"domain-rewritten", "accepts every recipient of @example.org",
			[]string{`in config.yaml: accept: ["@example.org"]`}},

		{"two domains in a file", file, "@a.test @b.test", func(*scene) {}, "domain-rewritten", "",
			[]string{"in config.yaml: accept_files: [/etc/postfix/virtual]"}},
		{"two domains without a file", inline, "@a.test @b.test", func(*scene) {}, "domain-rewritten", "",
			[]string{"in a file of accept_files: @example.org @a.test, @b.test",
				`or, if no directory has the addresses of the other domain: accept: ["@example.org"]`}},
		{"two domains without a file, beside one", inline, "@a.test @example.com", func(s *scene) {
			s.tables[inline]["@example.com"] = "@example.org"
		}, "domain-rewritten", "", []string{"in config.yaml: domain_aliases: {example.com: example.org}",
			"in a file of accept_files: @example.org @a.test, @example.com"}},
		{"two domains without a file, all accepted", inline, "@example.com @b.test", func(s *scene) {
			s.known["@example.org"] = false
		}, "(alias-accepts-all)", "", []string{"in a file of accept_files: @example.org @example.com, @b.test",
			"and remove @example.org from accept"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("virtual_alias_maps", c.table)
			s.tables[c.table] = map[string]string{"@example.org": c.value}
			s.AlwaysAccept = nil
			c.plant(s)
			got := s.examine()
			if summary(got) != c.want {
				t.Fatalf("found %q, want %q: %+v", summary(got), c.want, got)
			}
			if len(got) == 0 {
				return
			}
			if !strings.Contains(got[0].What, c.text) {
				t.Errorf("says %q, want %q", got[0].What, c.text)
			}
			if c.fix != nil && !slices.Equal(got[0].Fix, c.fix) {
				t.Errorf("fixed by %q, want %q", got[0].Fix, c.fix)
			}
		})
	}
}
