package postfix

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHealthy: set-ups of which nothing may be said.
func TestHealthy(t *testing.T) {
	const good = "{ unix:rcpt-milter/milter.sock, connect_timeout=5s, command_timeout=10s, default_action=tempfail }"
	for _, c := range []struct {
		what, setup string
		change      func(*scene)
		notes       string
	}{
		{"as Debian and the README have it, chrooted", "debian", func(*scene) {}, ""},
		{"inet, not chrooted", "inet", func(s *scene) { s.Listen = []string{"inet:127.0.0.1:9925"} }, ""},
		{"inet, by name, listening everywhere", "inet", func(s *scene) {
			s.Listen = []string{"unix:/other", "inet:0.0.0.0:9925"}
			s.set("smtpd_milters", "inet:milter.example.com:9925")
			s.set("milter_default_action", "tempfail")
		}, ""},
		{"postscreen, submission, amavis, $names", "busy", func(*scene) {}, ""},
		{"another instance, with tables and smtpd_milter_maps", "instance", func(s *scene) {
			s.Dir = "/etc/postfix-in"
			s.Listen = []string{"unix:/var/spool/postfix-in/rcpt-milter/milter.sock"}
			s.sockets = map[string]Socket{"/var/spool/postfix-in/rcpt-milter/milter.sock": {Exists: true,
				IsSocket: true, Writable: true, Answers: true}}
			s.tables = map[string]map[string]string{
				"cidr:/etc/postfix/no-milter":     nil,
				"hash:/etc/postfix/relay_domains": {"example.com": "OK", "Example.ORG": "OK"},
				"hash:/etc/postfix/virtual": {"postmaster": "root", "ann@example.com": "ann@inside",
					"x@elsewhere.example": "y", "example.net": "anything"},
			}
		}, ""},
		{"our socket below a link", "debian", func(s *scene) {
			s.Listen = []string{"unix:/var/run/rcpt-milter/milter.sock"}
			s.set("smtpd_milters", strings.ReplaceAll(good, "rcpt-milter/milter.sock", "/run/rcpt-milter/milter.sock"))
			s.service("smtp/inet").Chroot = "n"
			s.links = map[string]string{"/var/run": "/run"}
			s.sockets["/run/rcpt-milter/milter.sock"] = s.sockets[ownSocket]
		}, ""},
		{"absolute path, not chrooted", "debian", func(s *scene) {
			s.service("smtp/inet").Chroot = "-"
			s.set("smtpd_milters", strings.ReplaceAll(good, "rcpt-milter/milter.sock", ownSocket))
		}, ""},
		{"beside a milter that signs, and with braces in braces", "debian", func(s *scene) {
			s.set("smtpd_milters", "{ unix:rcpt-milter/milter.sock, { default_action = tempfail } }, { "+
				"inet:localhost:8891, default_action=accept }")
		}, ""},
		{"shutdown as default action", "debian", func(s *scene) {
			s.set("smtpd_milters", "unix:rcpt-milter/milter.sock")
			s.set("milter_default_action", "shutdown")
		}, ""},
		{"asked for some clients, by a table", "debian", func(s *scene) {
			s.set("smtpd_milters", "")
			s.set("smtpd_milter_maps", "cidr:/etc/postfix/milters")
			s.tables["cidr:/etc/postfix/milters"] = map[string]string{"0.0.0.0/0": "unix:rcpt-milter/milter.sock"}
		}, ""},
		{"users exempt on submission", "busy", func(s *scene) {
			s.override("submission/inet", "smtpd_milters", "$smtpd_milters")
			s.ExemptAuthenticated = true
		}, ""},
		{"no milters on a listener for a filter", "busy", func(s *scene) {
			delete(s.service("127.0.0.1:10025/inet").Overrides, "smtpd_milters")
			s.override("127.0.0.1:10025/inet", "receive_override_options", "no_milters")
		}, ""},
		{"sub-domains both ways", "debian", func(s *scene) {
			s.set("relay_domains", "example.com, .example.com, example.org")
			s.Domains[".example.com"] = "enforce"
		}, ""},
		{"sub-domains by their parent", "debian", func(s *scene) {
			s.set("parent_domain_matches_subdomains", "relay_domains")
			s.Domains[".example.com"], s.Domains[".example.org"] = "enforce", "pass"
		}, ""},
		{"a domain of mydestination, with aliases", "debian", func(s *scene) {
			s.set("mydestination", "example.org")
			s.set("relay_domains", "example.com")
			s.set("alias_maps", "hash:/etc/aliases")
			s.tables["hash:/etc/aliases"] = map[string]string{"postmaster": "root", "ann": "ann@inside"}
			s.known["ann@example.org"] = true
			s.set("local_recipient_maps", "")
		}, ""},
		{"domains in an LDAP table", "debian", func(s *scene) {
			s.set("relay_domains", "ldap:/etc/postfix/domains.cf, example.com")
			s.tables["ldap:/etc/postfix/domains.cf"] = nil
			s.fakeHost.tables["inline"] = nil
			delete(s.Domains, "example.org")
		}, "(map-unreadable)"},
		{"everybody is known to the old table", "debian",
			func(s *scene) { s.set("relay_recipient_maps", "static:all") }, ""},
		{"the old table while nothing is refused", "debian", func(s *scene) {
			s.set("relay_recipient_maps", "hash:/etc/postfix/relay_recipients")
			s.Domains = map[string]string{"example.com": "report", "example.org": "report"}
		}, "(mode-report) (old-table)"},
		{"a phased roll-out, the table open for what is enforced", "debian", func(s *scene) {
			s.set("relay_recipient_maps", "hash:/etc/postfix/relay_recipients")
			s.Domains = map[string]string{"example.com": "enforce", "example.org": "report"}
			s.tables["hash:/etc/postfix/relay_recipients"] = map[string]string{"@example.com": "OK"}
		}, "(mode-report) (old-table)"},
		{"the socketmap of the daemon", "debian", func(s *scene) {
			s.set("relay_recipient_maps", "socketmap:unix:rcpt-milter/map.sock:recipients")
			s.Socketmap = []string{"unix:" + mapSocket}
			s.sockets[mapSocket] = s.sockets[ownSocket]
		}, ""},
		{"a daemon that runs by the file, and may serve enough", "debian", func(s *scene) {
			s.Modes, s.Possible, s.Store = s.Domains, 2000, "ok"
		}, ""},
		{"the socketmap of another program", "debian", func(s *scene) {
			s.set("relay_recipient_maps", "socketmap:inet:127.0.0.1:1234:x")
		}, "(socketmap-foreign)"},
		{"address probes", "debian", func(s *scene) {
			s.set("smtpd_recipient_restrictions", "reject_unauth_destination, reject_unverified_recipient")
		}, "(probing)"},
		{"extensions that only Postfix knows", "debian", func(s *scene) {
			s.set("recipient_delimiter", "+-")
			s.set("canonical_maps", "inline:{ann@example.com=b}")
			s.tables["inline:{ann@example.com=b}"] = map[string]string{"ann@example.com": "b"}
			s.Daemon.Delimiter = "+"
		}, "(delimiter)"},
		{"extensions of mail that is only relayed", "debian", func(s *scene) {
			s.set("recipient_delimiter", "+")
		}, "(delimiter)"},
		{"extensions that the configuration excludes", "debian", func(s *scene) {
			s.set("recipient_delimiter", "+")
			s.DelimiterSet = true
		}, ""},
		{"extensions that the configuration excludes, with an alias table", "debian", func(s *scene) {
			s.set("recipient_delimiter", "+")
			s.set("canonical_maps", "inline:{ann@example.com=b}")
			s.tables["inline:{ann@example.com=b}"] = map[string]string{"ann@example.com": "b"}
			s.DelimiterSet = true
		}, ""},
		{"extensions of which the configuration has some", "debian", func(s *scene) {
			s.set("recipient_delimiter", "+-")
			s.Daemon.Delimiter, s.DelimiterSet = "+", true
		}, "(delimiter)"},
		{"extensions while nothing is rejected", "debian", func(s *scene) {
			s.set("recipient_delimiter", "+")
			s.Domains = map[string]string{"example.com": "report", "example.org": "report"}
		}, "(mode-report)"},
		{"extensions that only the daemon knows", "debian", func(s *scene) {
			s.set("recipient_delimiter", "")
			s.Daemon.Delimiter = "+"
		}, "(delimiter)"},
		{"probes from an address that is accepted", "debian", func(s *scene) {
			s.set("address_verify_sender", "$double_bounce_sender")
			s.set("myorigin", "example.com")
			s.known["double-bounce@example.com"] = false
		}, ""},
		{"probes from a domain of others", "debian", func(s *scene) {
			s.set("address_verify_sender", "$double_bounce_sender")
			s.set("myorigin", "elsewhere.example")
		}, ""},
		{"roles by virtual alias", "debian", func(s *scene) {
			delete(s.known, "postmaster@example.com")
			s.known["postmaster@example.com"] = false
			s.set("virtual_alias_maps", "inline:{postmaster@example.com=root}")
			s.tables["inline:{postmaster@example.com=root}"] = map[string]string{"postmaster@example.com": "root"}
		}, ""},
		{"canonical addresses of senders only", "debian", func(s *scene) {
			s.set("canonical_maps", "hash:/etc/postfix/canonical")
			s.set("canonical_classes", "envelope_sender, header_sender")
		}, ""},
		{"a catch-all that is accepted", "debian", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.com": "@inside.example"}
			s.known["@example.com"] = false
		}, ""},
		{"a domain alias that the daemon knows", "debian", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "@example.com"}
			s.Aliases = map[string][]string{"example.org": {"example.com"}}
		}, ""},
		{"a domain that Postfix leaves as it is", "debian", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "@example.org"}
		}, ""},
		{"roles of an alias", "debian", func(s *scene) {
			s.known["postmaster@example.org"], s.known["abuse@example.org"] = false, false
			s.Aliases = map[string][]string{"example.org": {"example.com"}}
		}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newScene(t, c.setup)
			c.change(s)
			if got := s.examine(); summary(got) != c.notes {
				t.Errorf("found %q, want %q: %+v", summary(got), c.notes, got)
			}
		})
	}
}

// TestPhasedRollOut: in a phased roll-out the advice for an old table opens the enforced domains
// only, and keeps those in mode report closed.
func TestPhasedRollOut(t *testing.T) {
	s := newScene(t, "debian")
	s.set("relay_recipient_maps", "hash:/etc/postfix/relay_recipients")
	s.Domains = map[string]string{"example.com": "enforce", ".example.com": "enforce", "example.org": "report"}
	for _, f := range s.examine() {
		if f.Name != "old-table" {
			continue
		}
		want := []string{"in the source of the table, for each sub-domain of example.com: @SUB.example.com OK",
			"in the source of the table: @example.com OK", "postmap hash:/etc/postfix/relay_recipients"}
		if f.Level != Problem || !slices.Equal(f.Fix, want) || !strings.Contains(f.Why, "Keep it for example.org") {
			t.Errorf("finding %+v", f)
		}
		return
	}
	t.Error("no finding about the table")
}

// TestPhasedParent: in a phased roll-out with ".domain", the table is open if each sub-domain that it names is.
func TestPhasedParent(t *testing.T) {
	const table = "hash:/etc/postfix/relay_recipients"
	for _, c := range []struct {
		name    string
		entries map[string]string // nil: the table cannot be listed
		want    Level
	}{
		{"a sub-domain that is open", map[string]string{"@sub.example.com": "OK"}, Note},
		{"in another spelling", map[string]string{"@Sub.Example.COM": "OK"}, Note},
		{"two that are open, and addresses", map[string]string{"@a.example.com": "OK", "@b.a.example.com": "OK",
			"ann@a.example.com": "OK", "ann@example.org": "OK"}, Note},
		{"no sub-domain", map[string]string{"@example.org": "OK"}, Problem},
		{"addresses of a sub-domain", map[string]string{"ann@sub.example.com": "OK"}, Problem},
		{"one that is open, and addresses of another", map[string]string{"@a.example.com": "OK",
			"ann@b.example.com": "OK"}, Problem},
		{"one that is open, and addresses of one in mode report", map[string]string{"@a.example.com": "OK",
			"ann@r.example.com": "OK"}, Note},
		{"the open domain of another mode only", map[string]string{"@r.example.com": "OK"}, Problem},
		{"the parent itself", map[string]string{"@example.com": "OK"}, Problem},
		{"a table that cannot be listed", nil, Problem},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("relay_recipient_maps", table)
			s.set("relay_domains", "example.org, .example.com")
			s.tables[table] = c.entries
			s.Domains = map[string]string{".example.com": "enforce", "r.example.com": "report", "example.org": "report"}
			all := s.examine()
			i := slices.IndexFunc(all, func(f Finding) bool { return f.Name == "old-table" })
			if i < 0 || all[i].Level != c.want || len(all[i].Fix) == 0 {
				t.Fatalf("found %+v, want a %s", all, c.want)
			}
			const line = "in the source of the table, for each sub-domain of example.com: @SUB.example.com OK"
			if all[i].Fix[0] != line {
				t.Errorf("fixed by %q", all[i].Fix)
			}
		})
	}
}

// TestRoles: what a listener on a loopback address is for.
func TestRoles(t *testing.T) {
	for _, c := range []struct {
		name, service string
		overrides     map[string]string
		main          string // smtpd_upstream_proxy_protocol of main.cf
		want          role
	}{
		{"behind a content filter", "127.0.0.1:10025", nil, "", reinjection},
		{"behind a proxy", "127.0.0.1:10025", map[string]string{"smtpd_upstream_proxy_protocol": "haproxy"}, "",
			outside},
		{"behind a proxy, by main.cf", "[::1]:10025", nil, "haproxy", outside},
		{"behind a content filter beside a proxy", "localhost:10025",
			map[string]string{"smtpd_upstream_proxy_protocol": ""}, "haproxy", reinjection},
		{"submission behind a proxy", "127.0.0.1:587", map[string]string{"smtpd_upstream_proxy_protocol": "haproxy"},
			"", submission},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("smtpd_upstream_proxy_protocol", c.main)
			service := smtpd(c.service, "y", c.overrides)
			e := examination{Settings: s.Settings}
			if got := e.roleOf(&service); got != c.want {
				t.Errorf("role %d, want %d", got, c.want)
			}
		})
	}
}

// TestAgeOfDenial: a denial counts if it is not older than a day and not older than the daemon.
func TestAgeOfDenial(t *testing.T) {
	for _, c := range []struct {
		name         string
		age, running time.Duration // running 0: the start is not known
		want         bool
	}{
		{"start unknown", time.Hour, 0, true},
		{"old", 25 * time.Hour, 0, false},
		{"old, and since the start", 25 * time.Hour, 48 * time.Hour, false},
		{"since the start", time.Hour, 2 * time.Hour, true},
		{"before the start", 2 * time.Hour, time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := time.Now().Add(-c.age)
			e := examination{host: &fakeHost{denied: Denial{at, "avc: denied"}}}
			if c.running > 0 {
				e.daemon.Started = time.Now().Add(-c.running)
			}
			e.checkDenied()
			if got := len(e.findings) == 1; got != c.want {
				t.Fatalf("reported: %v, want %v", got, c.want)
			}
			if c.want && !strings.Contains(e.findings[0].What, at.Format(time.DateTime)) {
				t.Errorf("no time in %q", e.findings[0].What)
			}
		})
	}
}
