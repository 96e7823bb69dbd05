package postfix

import (
	"slices"
	"strings"
	"testing"
)

// TestTablesOfThisHost: Postfix rejects what local_recipient_maps and virtual_mailbox_maps lack, before it asks the
// daemon.
func TestTablesOfThisHost(t *testing.T) {
	const (
		boxes   = "hash:/etc/postfix/boxes"
		toRelay = "if another server has the mailboxes, in main.cf: move example.org from "
		opened  = "if this host delivers mail for every recipient of the directory: postconf -e "
	)
	local := func(s *scene) {
		s.set("mydestination", "$myhostname, localhost, example.org")
		s.set("relay_domains", "example.com")
	}
	virtual := func(s *scene) {
		s.set("virtual_mailbox_domains", "example.org")
		s.set("virtual_mailbox_maps", boxes)
		s.set("virtual_transport", "lmtp:unix:private/lmtp")
		s.set("relay_domains", "example.com")
		s.tables[boxes] = map[string]string{"ann@example.org": "x"}
	}
	for _, c := range []struct {
		name  string
		plant func(*scene)
		want  string
		text  string // a part of the finding
		fix   []string
	}{
		{"a local domain", local, "old-table",
			"local_recipient_maps is in effect for example.org (unix:passwd.byname and hash:/etc/aliases)",
			[]string{toRelay + "mydestination to relay_domains", opened +
				"'local_recipient_maps = proxy:unix:passwd.byname $alias_maps inline:{@example.org=OK}'"}},
		{"a local domain that the table opens", func(s *scene) {
			local(s)
			s.set("local_recipient_maps", "$alias_maps inline:{@example.org=OK}")
			s.tables["inline:{@example.org=OK}"] = map[string]string{"@example.org": "OK"}
		}, "", "", nil},
		{"a local domain that is rewritten as a whole", func(s *scene) {
			local(s)
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "ann@example.com"}
		}, "domain-rewritten", "", nil},
		{"a local domain without a table", func(s *scene) { local(s); s.set("local_recipient_maps", "") }, "", "", nil},
		{"a local domain, and a table that has everybody", func(s *scene) {
			local(s)
			s.set("local_recipient_maps", "$alias_maps static:all")
		}, "", "", nil},
		{"a local domain, and the exported table", func(s *scene) {
			local(s)
			s.Export = "/var/lib/rcpt-milter/list"
			s.set("local_recipient_maps", "$alias_maps lmdb:/var/lib/rcpt-milter/list")
		}, "(old-table)", "(hash:/etc/aliases and lmdb:/var/lib/rcpt-milter/list)", nil},
		{"a local domain of which some recipients are reported", func(s *scene) {
			local(s)
			s.Domains["example.org"] = "report"
		}, "(mode-report) (old-table)", "", nil},
		{"a local domain that is passed", func(s *scene) { local(s); s.Domains["example.org"] = "pass" }, "", "", nil},
		{"a local domain of a parent", func(s *scene) {
			local(s)
			s.Domains = map[string]string{"example.com": "enforce", ".example.com": "enforce", ".org": "enforce"}
			s.set("relay_domains", "example.com, .example.com, .org")
		}, "(old-table)", "for example.org", nil},
		{"the names of this host, of a parent", func(s *scene) {
			s.set("myhostname", "mx.example.com")
			s.set("mydestination", "$myhostname, localhost.example.com, localhost")
			s.Domains[".example.com"], s.Domains[".localhost"] = "enforce", "pass"
			s.set("relay_domains", "example.com, .example.com, example.org")
		}, "", "", nil},
		{"the name of this host, by name", func(s *scene) {
			s.set("myhostname", "example.org")
			s.set("mydestination", "$myhostname, localhost")
			s.set("relay_domains", "example.com")
		}, "old-table", "for example.org", nil},
		{"a local domain by a table", func(s *scene) {
			s.set("mydestination", "localhost, hash:/etc/postfix/local")
			s.set("relay_domains", "example.com")
			s.tables["hash:/etc/postfix/local"] = map[string]string{"example.org": "x"}
		}, "old-table", "for example.org", nil},

		{"virtual mailboxes", virtual, "old-table", "virtual_mailbox_maps is in effect for example.org (" + boxes + ")",
			[]string{toRelay + "virtual_mailbox_domains to relay_domains", opened +
				"'virtual_mailbox_maps = " + boxes + " inline:{@example.org=OK}'"}},
		{"virtual mailboxes that virtual(8) delivers to", func(s *scene) {
			virtual(s)
			s.set("virtual_transport", "virtual:")
		}, "old-table", "", []string{toRelay + "virtual_mailbox_domains to relay_domains",
			"if this host has them: give each recipient of the directory an entry in virtual_mailbox_maps"}},
		{"virtual mailboxes, by the domains of the table", func(s *scene) {
			virtual(s)
			s.set("virtual_mailbox_domains", "$virtual_mailbox_maps")
			s.tables[boxes]["example.org"] = "x"
		}, "old-table", "for example.org", nil},
		{"virtual mailboxes in LDAP", func(s *scene) {
			virtual(s)
			s.set("virtual_mailbox_maps", "proxy:ldap:/etc/postfix/boxes.cf")
		}, "old-table", "(ldap:/etc/postfix/boxes.cf)", nil},
		{"virtual mailboxes without a table", func(s *scene) { virtual(s); s.set("virtual_mailbox_maps", "") }, "", "",
			nil},
		{"virtual mailboxes of other domains", func(s *scene) {
			virtual(s)
			s.set("virtual_mailbox_domains", "elsewhere.example")
			s.set("relay_domains", "example.com, example.org")
		}, "", "", nil},
		{"in mydestination too, which counts first", func(s *scene) {
			virtual(s)
			s.set("mydestination", "example.org")
			s.set("local_recipient_maps", "")
		}, "", "", nil},
		{"two domains", func(s *scene) {
			virtual(s)
			s.set("virtual_mailbox_domains", "example.com example.org")
			s.set("relay_domains", "")
		}, "old-table", "for example.com and example.org", []string{
			"if another server has the mailboxes, in main.cf: move example.com and example.org from " +
				"virtual_mailbox_domains to relay_domains",
			opened + "'virtual_mailbox_maps = " + boxes + " inline:{@example.com=OK,@example.org=OK}'"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("alias_maps", "hash:/etc/aliases")
			c.plant(s)
			got := s.examine()
			if summary(got) != c.want {
				t.Fatalf("found %q, want %q: %+v", summary(got), c.want, got)
			}
			if len(got) == 0 {
				return
			}
			last := got[len(got)-1]
			if !strings.Contains(last.What, c.text) || last.Why == "" || len(last.Fix) == 0 {
				t.Errorf("finding %+v, want %q", last, c.text)
			}
			if c.fix != nil && !slices.Equal(last.Fix, c.fix) {
				t.Errorf("fixed by %q, want %q", last.Fix, c.fix)
			}
		})
	}
}
