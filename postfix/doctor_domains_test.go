package postfix

import (
	"strings"
	"testing"
)

// TestDomainLists: Postfix looks for a domain in mydestination first, and the first pattern of a list that matches
// counts.
func TestDomainLists(t *testing.T) {
	for _, c := range []struct {
		name, relay string
		plant       func(*scene)
		want, text  string
		fix         string
	}{
		{"relay_domains with mydestination", "$mydestination, example.com, example.org", func(s *scene) {
			s.set("mydestination", "$myhostname, localhost.$mydomain, localhost")
		}, "", "", ""},
		{"relay_domains with mydestination and an unserved domain",
			"$mydestination example.com example.org example.net",
			func(*scene) {}, "relayed-not-served", "Postfix relays example.net, which", ""},
		{"mydestination by a table", "example.com, example.org, mx.example.com", func(s *scene) {
			s.set("mydestination", "hash:/etc/postfix/local")
			s.tables["hash:/etc/postfix/local"] = map[string]string{"mx.example.com": "x"}
		}, "", "", ""},
		{"mydestination with parents in relay_domains", "$mydestination example.com example.org", func(s *scene) {
			s.set("parent_domain_matches_subdomains", "relay_domains")
			s.set("mydestination", "localhost")
			s.Domains[".example.com"], s.Domains[".example.org"] = "enforce", "enforce"
		}, "", "", ""},
		{"sub-domains of a domain of mydestination", ".mx.example.com example.com example.org", func(s *scene) {
			s.set("mydestination", "mx.example.com")
		}, "relayed-not-served", ".mx.example.com", ""},

		{"an excluded domain", "!example.net, example.com, example.org", func(*scene) {}, "", "", ""},
		{"an excluded domain of a table", "!example.net, hash:/relay", func(s *scene) {
			s.tables["hash:/relay"] = map[string]string{"example.com": "", "example.net": "", "example.org": ""}
		}, "", "", ""},
		{"an excluded table", "!hash:/not, hash:/relay", func(s *scene) {
			s.tables["hash:/relay"] = map[string]string{"example.com": "", "example.net": "", "example.org": ""}
			s.tables["hash:/not"] = map[string]string{"example.net": ""}
		}, "", "", ""},
		{"excluded after it matched", "example.com, example.org, example.net, !example.net", func(*scene) {},
			"relayed-not-served", "example.net", ""},
		{"excluded twice", "!!example.net, example.com, example.org", func(*scene) {}, "relayed-not-served",
			"example.net", ""},
		{"an excluded domain that is served", "!example.org, example.com, example.org", func(*scene) {},
			"served-not-relayed", "example.org",
			"postconf -e 'relay_domains = example.org, !example.org, example.com, example.org'"},
		{"an excluded sub-domain that is served", "!sub.example.com, .example.com, example.com, example.org",
			func(s *scene) { s.Domains["sub.example.com"], s.Domains[".example.com"] = "enforce", "enforce" },
			"served-not-relayed", "does not accept mail for sub.example.com,", ""},
		{"an excluded sub-domain of a parent that is served",
			"!sub.example.com, .example.com, example.com, example.org",
			func(s *scene) { s.Domains[".example.com"] = "enforce" }, "", "", ""},
		{"excluded sub-domains", "!.sub.example.com, .example.com, example.com, example.org", func(s *scene) {
			s.Domains["x.sub.example.com"], s.Domains[".example.com"] = "enforce", "enforce"
		}, "served-not-relayed", "x.sub.example.com", ""},
		{"all sub-domains excluded", "!.example.com, example.com, example.org, .example.com", func(s *scene) {
			s.Domains[".example.com"] = "enforce"
		}, "served-not-relayed", ".example.com", ""},
		{"an excluded table that cannot be listed", "!ldap:/not.cf, example.com, example.org", func(s *scene) {
			s.tables["ldap:/not.cf"] = nil
		}, "(map-unreadable)", "ldap:/not.cf", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("relay_domains", c.relay)
			s.AlwaysAccept = nil
			c.plant(s)
			got := s.examine()
			if summary(got) != c.want {
				t.Fatalf("found %q, want %q: %+v", summary(got), c.want, got)
			}
			if len(got) > 0 && !strings.Contains(got[0].What, c.text) {
				t.Errorf("says %q, want %q", got[0].What, c.text)
			}
			if c.fix != "" && got[0].Fix[0] != c.fix {
				t.Errorf("fixed by %q, want %q", got[0].Fix, c.fix)
			}
		})
	}
}
