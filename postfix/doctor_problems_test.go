package postfix

import (
	"strings"
	"testing"
	"time"
)

// TestProblems plants one problem each. want is what is found, fix the first line that
// fixes it, and text a part of what is said.
func TestProblems(t *testing.T) {
	const (
		good    = "{ unix:rcpt-milter/milter.sock, connect_timeout=5s, command_timeout=10s, default_action=tempfail }"
		setGood = "postconf -e 'smtpd_milters = " + good + "'"
	)
	for _, c := range []struct {
		what  string
		plant func(*scene)
		want  string
		text  string
		fix   string
	}{
		{"no daemon", func(s *scene) { s.State, s.Trouble = "", "is it running?" }, "daemon-silent",
			"the daemon does not answer: is it running?", "systemctl start rcpt-milter"},
		{"not ready", func(s *scene) { s.State = "not_ready" }, "index-not-ready", "", "rcpt-milter status"},
		{"stale", func(s *scene) { s.State = "stale" }, "index-stale", "", "rcpt-milter status"},
		{"a stale accept file", func(s *scene) { s.StaleFiles = []string{"/etc/list: older than a day"} },
			"accept-file-stale", "/etc/list: older than a day", "rcpt-milter status"},
		{"a store that cannot be read", func(s *scene) { s.Store = "failed" }, "store-failed",
			"the index cannot be read", "rcpt-milter status"},
		{"a damaged store", func(s *scene) { s.Store = "damaged" }, "store-damaged", "the index is damaged",
			"rcpt-milter status"},
		{"a file that was rejected", func(s *scene) {
			s.Rejected, s.Modes = "config.yaml:1:1: bad\nmore", map[string]string{"example.com": "enforce"}
		}, "config-rejected", "the daemon has rejected the configuration file: config.yaml:1:1: bad",
			"rcpt-milter check"},
		{"a file that was not loaded", func(s *scene) { s.Modes = map[string]string{"example.com": "enforce"} },
			"config-not-loaded", "", "rcpt-milter reload"},
		{"too few file descriptors", func(s *scene) { s.Possible = 50 }, "connections", "the daemon serves 50 at once",
			"rcpt-milter reload"},
		{"a key that needs a restart", func(s *scene) { s.Restart = []string{"listen", "metrics"} }, "(config-restart)",
			"listen and metrics", "systemctl restart rcpt-milter"},
		{"late", func(s *scene) { s.State = "late" }, "(index-late)", "", "rcpt-milter status"},
		{"alarm", func(s *scene) { s.Alarms = []string{"a certificate expired"} }, "(daemon-alarm)",
			"a certificate expired", "rcpt-milter status"},
		{"report", func(s *scene) { s.Domains["example.com"] = "report" }, "(mode-report)", "example.com",
			"rcpt-milter report"},

		{"not in smtpd_milters", func(s *scene) { s.set("smtpd_milters", "") }, "milter-missing", "smtp/inet", setGood},
		{"others in smtpd_milters",
			func(s *scene) { s.set("smtpd_milters", "$dkim, inet:b:1"); s.set("dkim", "inet:a:1") },
			"milter-missing", "",
			"postconf -e 'smtpd_milters = " + good + ", $dkim, inet:b:1'"},
		{"overridden in master.cf", func(s *scene) { s.override("smtp/inet", "smtpd_milters", "") }, "milter-missing",
			"smtp/inet", "postconf -PX smtp/inet/smtpd_milters"},
		{"no_milters in main.cf",
			func(s *scene) { s.set("receive_override_options", "no_milters, no_header_body_checks") },
			"milter-missing", "",
			"postconf -e 'receive_override_options = no_header_body_checks'"},
		{"no_milters in main.cf, for listeners with milters of their own", func(s *scene) {
			s.set("receive_override_options", "no_milters")
			s.Services = append(s.Services, smtpd("2525", "y", map[string]string{"smtpd_milters": good}))
		}, "milter-missing", "smtp/inet and 2525/inet", "postconf -e 'receive_override_options ='"},
		{"no_milters in master.cf",
			func(s *scene) { s.override("smtp/inet", "receive_override_options", "no_milters") },
			"milter-missing", "",
			"postconf -PX smtp/inet/receive_override_options"},
		{"another port", func(s *scene) {
			s.Listen = []string{"inet:127.0.0.1:1"}
			s.set("smtpd_milters",
				"inet:127.0.0.1:2")
		}, "milter-missing", "",
			"postconf -e 'smtpd_milters = { inet:127.0.0.1:1, connect_timeout=5s, command_timeout=10s, " +
				"default_action=tempfail }, inet:127.0.0.1:2'"},
		{"another host", func(s *scene) {
			s.Listen = []string{"inet:192.0.2.1:1"}
			s.set("smtpd_milters",
				"inet:192.0.2.2:1")
		}, "milter-missing", "", ""},
		{"another instance", func(s *scene) { s.Dir = "/etc/postfix-in"; s.set("smtpd_milters", "") }, "milter-missing",
			"", "postconf -c /etc/postfix-in -e 'smtpd_milters = " + good + "'"},
		{"no smtpd", func(s *scene) { s.service("smtp/inet").Program = "postscreen" }, "no-listener", "", ""},

		{"in non_smtpd_milters", func(s *scene) {
			s.set("non_smtpd_milters",
				"unix:rcpt-milter/milter.sock inet:localhost:8891")
		}, "milter-non-smtpd", "",
			"postconf -e 'non_smtpd_milters = inet:localhost:8891'"},
		{"in non_smtpd_milters by name", func(s *scene) { s.set("non_smtpd_milters", "$smtpd_milters") },
			"milter-non-smtpd", "", "postconf -e 'non_smtpd_milters ='"},
		{"on submission", func(s *scene) { s.Services = append(s.Services, smtpd("submission", "y", nil)) },
			"milter-submission", "submission/inet",
			"postconf -P submission/inet/smtpd_milters="},
		{"on port 465", func(s *scene) {
			s.Services = append(s.Services, smtpd("0.0.0.0:465", "y",
				map[string]string{"smtpd_milters": "inet:a:1, " + good}))
		}, "milter-submission", "", "postconf -P 0.0.0.0:465/inet/smtpd_milters=inet:a:1"},
		{"on submission beside others", func(s *scene) {
			s.set("smtpd_milters", good+", inet:a:1, { inet:b:2, default_action=accept }")
			s.Services = append(s.Services, smtpd("submission", "y", nil))
		}, "milter-submission", "", "postconf -e 'inside_milters = inet:a:1, { inet:b:2, default_action=accept }'"},
		{"behind a filter", func(s *scene) { s.Services = append(s.Services, smtpd("127.0.0.1:10025", "y", nil)) },
			"milter-reinjection", "127.0.0.1:10025/inet",
			"postconf -P 127.0.0.1:10025/inet/smtpd_milters="},
		{"behind a filter on another host", func(s *scene) {
			s.set("content_filter", "smtp:[192.0.2.1]:10024")
			s.Services = append(s.Services, smtpd("192.0.2.9:10025", "y", map[string]string{"content_filter": ""}))
		}, "milter-reinjection", "", ""},
		{"twice", func(s *scene) { s.set("smtpd_milters", good+", unix:rcpt-milter/milter.sock") }, "(milter-twice)",
			"", setGood},

		{"absolute path in a chroot", func(s *scene) {
			s.set("smtpd_milters",
				strings.ReplaceAll(good, "rcpt-milter/milter.sock", ownSocket))
		}, "socket-path",
			"chrooted in /var/spool/postfix, looks for unix:" + ownSocket + " at /var/spool/postfix" + ownSocket,
			setGood},
		{"socket outside the chroot", func(s *scene) {
			s.Listen = []string{"unix:/run/rcpt-milter/milter.sock"}
			s.set("smtpd_milters", "{ unix:/run/rcpt-milter/milter.sock, default_action=tempfail }")
		}, "socket-path", "at /var/spool/postfix/run/rcpt-milter/milter.sock, and the daemon listens on " +
			"unix:/run/rcpt-milter/milter.sock",
			"in config.yaml: listen: unix:/var/spool/postfix/rcpt-milter/milter.sock"},
		{"mistyped path", func(s *scene) {
			s.set("smtpd_milters", "{ unix:rcpt-milter/milter.socket, "+
				"default_action=tempfail }")
		}, "socket-path", "", setGood},
		{"no socket", func(s *scene) { s.sockets = nil }, "socket-missing", "there is no socket at " + ownSocket,
			"systemctl restart rcpt-milter"},
		{"no socket to see", func(s *scene) { s.sockets[ownSocket] = Socket{Obstacle: "permission denied"} },
			"(socket-unseen)", "permission denied", ""},
		{"a file", func(s *scene) { s.sockets[ownSocket] = Socket{Exists: true} }, "socket-missing", "is not a socket",
			"rm " + ownSocket},
		{"not writable", func(s *scene) {
			s.sockets[ownSocket] = Socket{Exists: true, IsSocket: true, Obstacle: "it has mode 0600", Answers: true}
		}, "socket-not-writable", "the user postfix may not write to the socket " + ownSocket + ": it has mode " +
			"0600", `in config.yaml: socket: {group: postfix, mode: "0660"}`},
		{"left behind", func(s *scene) { s.sockets[ownSocket] = Socket{Exists: true, IsSocket: true, Writable: true} },
			"socket-deaf", "", "systemctl restart rcpt-milter"},

		{"default action unset", func(s *scene) { s.set("smtpd_milters", "unix:rcpt-milter/milter.sock, inet:a:1") },
			"default-action", "milter_default_action of smtp/inet is not set",
			"postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, default_action=tempfail }, inet:a:1'"},
		{"default action accept", func(s *scene) {
			s.set("milter_default_action", "accept")
			s.set("smtpd_milters", "unix:rcpt-milter/milter.sock")
		}, "default-action",
			"milter_default_action accept", "postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, " +
				"default_action=tempfail }'"},
		{"its own default action accept", func(s *scene) {
			s.set("smtpd_milters",
				strings.Replace(good, "tempfail", "accept", 1))
		}, "default-action", "accept",
			"postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, command_timeout=10s, connect_timeout=5s, " +
				"default_action=tempfail }'"},
		{"default action reject",
			func(s *scene) { s.set("smtpd_milters", strings.Replace(good, "tempfail", "reject", 1)) },
			"default-action", "reject", ""},
		{"default action in master.cf", func(s *scene) {
			s.set("smtpd_milters", "unix:rcpt-milter/milter.sock")
			s.set("milter_default_action", "tempfail")
			s.override("smtp/inet", "milter_default_action", "accept")
		}, "default-action", "smtp/inet", ""},

		{"command timeout short", func(s *scene) { s.set("smtpd_milters", strings.Replace(good, "10s", "1s", 1)) },
			"timeout", "command_timeout of smtp/inet is 1s",
			"postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, command_timeout=10s, connect_timeout=5s, " +
				"default_action=tempfail }'"},
		{"command timeout shorter than an answer may take", func(s *scene) { s.ReplyTimeout = 10 * time.Second },
			"timeout", "command_timeout of smtp/inet is 10s", ""},
		{"connect timeout long", func(s *scene) {
			s.set("smtpd_milters", "{ unix:rcpt-milter/milter.sock, default_action=tempfail }")
			s.set("milter_connect_timeout", "1h")
		}, "timeout", "connect_timeout of smtp/inet is 1h", ""},
		{"old protocol", func(s *scene) { s.set("milter_protocol", "2") }, "protocol", "smtp/inet is 2",
			"postconf -e 'milter_protocol = 6'"},
		{"old protocol in master.cf", func(s *scene) { s.override("smtp/inet", "milter_protocol", "2") }, "protocol",
			"smtp/inet is 2", "postconf -P smtp/inet/milter_protocol=6"},
		{"old protocol of this milter", func(s *scene) {
			s.set("smtpd_milters", "{ unix:rcpt-milter/milter.sock, default_action=tempfail, protocol=2 }")
		}, "protocol", "smtp/inet is 2", "postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, " +
			"default_action=tempfail, protocol=6 }'"},
		{"more processes", func(s *scene) { s.Connections = 99 }, "connections",
			"may open 100 connections, and limits.connections is 99",
			"in config.yaml: limits: {connections: 200}"},
		{"more processes of several", func(s *scene) {
			s.Services = append(s.Services, smtpd("192.0.2.1:smtp", "y", nil))
			s.set("default_process_limit", "1500")
		}, "connections", "3000", "in config.yaml: limits: {connections: 3100}"},
		{"any number of processes", func(s *scene) { s.service("smtp/inet").Processes = "0" }, "connections",
			"not limited", ""},

		{"relayed and not served",
			func(s *scene) { s.set("relay_domains", "example.com, example.org, MÜNCHEN.example") },
			"relayed-not-served", "xn--mnchen-3ya.example", ""},
		{"relayed by a table", func(s *scene) {
			s.set("relay_domains", "$mydestination, hash:/etc/postfix/relay")
			s.set("mydestination", "")
			s.tables["hash:/etc/postfix/relay"] = map[string]string{"example.com": "", "example.org": "",
				"example.net": ""}
		}, "relayed-not-served", "example.net", ""},
		{"sub-domains relayed and not served", func(s *scene) {
			s.set("relay_domains",
				"example.com example.org .example.com")
		}, "relayed-not-served", ".example.com", ""},
		{"sub-domains by their parent", func(s *scene) { s.set("parent_domain_matches_subdomains", "relay_domains") },
			"(subdomains-not-served)", "example.com and example.org", ""},
		{"served and not relayed", func(s *scene) { s.set("relay_domains", "example.com") }, "served-not-relayed",
			"example.org", "postconf -e 'relay_domains = example.com, example.org'"},
		{"sub-domains served and not relayed", func(s *scene) { s.Domains[".example.com"] = "enforce" },
			"served-not-relayed", ".example.com", ""},
		{"a domain without addresses", func(s *scene) { s.Empty = []string{"example.org"} }, "domain-empty",
			"no address of example.org is known", ""},
		{"old table", func(s *scene) { s.set("relay_recipient_maps", "hash:/etc/postfix/relay_recipients") },
			"old-table", "hash:/etc/postfix/relay_recipients",
			"postconf -e 'relay_recipient_maps ='"},
		{"socketmap without the daemon", func(s *scene) {
			s.set("relay_recipient_maps", "socketmap:unix:rcpt-milter/map.sock:recipients")
		}, "socketmap-missing", "rcpt-milter/map.sock", "in config.yaml: listen_socketmap: " +
			"unix:/var/spool/postfix/rcpt-milter/map.sock"},
		{"socketmap of another name", func(s *scene) {
			s.set("relay_recipient_maps", "socketmap:unix:rcpt-milter/map.sock:virtual")
			s.Socketmap = []string{"unix:" + mapSocket}
			s.sockets[mapSocket] = s.sockets[ownSocket]
		}, "socketmap-name", "not virtual",
			"postconf -e 'relay_recipient_maps = socketmap:unix:rcpt-milter/map.sock:recipients'"},
		{"socketmap that is in the file only", func(s *scene) {
			s.set("relay_recipient_maps", "socketmap:unix:rcpt-milter/map.sock:recipients")
			s.Socketmap = []string{"unix:" + mapSocket}
		}, "socket-missing", "there is no socket at " + mapSocket, "systemctl restart rcpt-milter"},
		{"socketmap that Postfix may not write to", func(s *scene) {
			s.set("relay_recipient_maps", "socketmap:unix:rcpt-milter/map.sock:recipients")
			s.Socketmap = []string{"unix:" + mapSocket}
			s.sockets[mapSocket] = Socket{Exists: true, IsSocket: true, Obstacle: "it has mode 0600", Answers: true}
		}, "socket-not-writable", "the socket " + mapSocket, `in config.yaml: socket: {group: postfix, mode: "0660"}`},
		{"extensions", func(s *scene) { s.set("recipient_delimiter", "+") }, "(delimiter)",
			`recipient_delimiter is "+" in Postfix and "" in config.yaml`, `in config.yaml: recipient_delimiter: "+"`},
		{"SELinux", func(s *scene) { s.denied = Denial{time.Now().Add(-time.Hour), "avc: denied { connectto }"} },
			"selinux-denied", "connectto", ""},
		{"a live table of the directory",
			func(s *scene) { s.set("relay_recipient_maps", "proxy:ldap:/etc/postfix/ad.cf") },
			"old-table", "ldap:/etc/postfix/ad.cf", "postconf -e 'relay_recipient_maps ='"},

		{"alias", func(s *scene) {
			s.set("virtual_alias_maps", "proxy:hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"ann@example.com": "", "info@example.com": "",
				"x@elsewhere.example": ""}
		}, "alias-not-accepted", "1 address that the daemon does not accept: info@example.com", "in config.yaml: " +
			"accept_files: [/etc/postfix/virtual]"},
		{"alias without a domain", func(s *scene) {
			s.set("virtual_alias_maps", "inline:{info=x}")
			s.set("myorigin", "example.com")
			s.tables["inline:{info=x}"] = map[string]string{"info": "x"}
		}, "alias-not-accepted", "info@example.com", `in config.yaml: accept: ["info@example.com"]`},
		{"canonical address", func(s *scene) {
			s.set("recipient_canonical_maps", "unionmap:{texthash:/a, texthash:/b}")
			s.tables["texthash:/a"] = map[string]string{"old@example.com": "ann@example.com"}
			s.tables["texthash:/b"] = map[string]string{"ann@example.com": ""}
		}, "alias-not-accepted", "texthash:/a", "in config.yaml: accept_files: [/a]"},
		{"local alias", func(s *scene) {
			s.set("mydestination", "example.org")
			s.set("relay_domains", "example.com")
			s.set("alias_maps", "hash:/etc/aliases")
			s.set("local_recipient_maps", "")
			s.tables["hash:/etc/aliases"] = map[string]string{"info:": ""}
		}, "alias-not-accepted", "info@example.org", `in config.yaml: accept: ["info@example.org"]`},
		{"rewritten domain", func(s *scene) {
			s.set("canonical_maps", "hash:/etc/postfix/canonical")
			s.tables["hash:/etc/postfix/canonical"] = map[string]string{"@example.org": "@example.com"}
		}, "domain-rewritten", "maps @example.org to another domain", "in config.yaml: domain_aliases: {example.org: " +
			"example.com}"},
		{"rewritten domain, in a spelling of its own", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@Example.ORG": "@EXAMPLE.com."}
		}, "domain-rewritten", "", "in config.yaml: domain_aliases: {example.org: example.com}"},
		{"rewritten to a domain that is not ours", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "@inside.example"}
		}, "domain-rewritten", "", "in config.yaml: domain_aliases: {example.org: inside.example}"},
		{"rewritten to two domains", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "@example.com, @inside.example"}
		}, "domain-rewritten", "", "in config.yaml: accept_files: [/etc/postfix/virtual]"},
		{"rewritten to two domains, of which one is known", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "@example.com, @inside.example"}
			s.Aliases = map[string][]string{"example.org": {"example.com"}}
		}, "domain-rewritten", "", ""},
		{"a catch-all", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "ann@example.com"}
		}, "domain-rewritten", "every recipient of @example.org", `in config.yaml: accept: ["@example.org"]`},
		{"an alias of which everybody is accepted", func(s *scene) {
			s.set("virtual_alias_maps", "hash:/etc/postfix/virtual")
			s.tables["hash:/etc/postfix/virtual"] = map[string]string{"@example.org": "@example.com"}
			s.known["@example.org"] = false
		}, "(alias-accepts-all)", "the daemon accepts every recipient", "in config.yaml: domain_aliases: " +
			"{example.org: example.com}"},
		{"pattern table", func(s *scene) {
			s.set("virtual_alias_maps", "pcre:/etc/postfix/virtual.pcre")
			s.tables["pcre:/etc/postfix/virtual.pcre"] = nil
		}, "(map-unreadable)", "pcre:/etc/postfix/virtual.pcre", ""},
		{"table that is not there", func(s *scene) { s.set("virtual_alias_maps", "hash:/etc/postfix/none") },
			"map-broken", "No such file", "postmap hash:/etc/postfix/none"},

		{"probe sender", func(s *scene) {
			s.set("address_verify_sender", "$double_bounce_sender")
			s.set("myorigin", "example.com")
		}, "probe-sender",
			"double-bounce@example.com", `in config.yaml: accept: ["double-bounce@example.com"]`},
		{"probe sender that changes", func(s *scene) {
			s.set("address_verify_sender", "probe@example.com")
			s.set("address_verify_sender_ttl", "12h")
		}, "probe-sender", "", `in config.yaml: accept_patterns: ['probe[0-9a-z]*@example\.com']`},
		{"postmaster of nobody", func(s *scene) { s.known["postmaster@example.com"] = false }, "role-ownerless",
			"postmaster@example.com", ""},

		{"soft bounce", func(s *scene) { s.set("soft_bounce", "yes") }, "soft-bounce", "",
			"postconf -e 'soft_bounce = no'"},
		{"soft bounce in master.cf", func(s *scene) { s.override("smtp/inet", "soft_bounce", "yes") }, "soft-bounce",
			"", "postconf -PX smtp/inet/soft_bounce"},
		{"hard error limit", func(s *scene) { s.set("smtpd_hard_error_limit", "3") }, "error-limit",
			"smtpd_hard_error_limit is 3 for smtp/inet",
			"postconf -e 'smtpd_hard_error_limit = ${stress?{1}:{20}}'"},
		{"hard error limit in master.cf", func(s *scene) { s.override("smtp/inet", "smtpd_hard_error_limit", "3") },
			"error-limit", "smtpd_hard_error_limit is 3 for smtp/inet",
			"postconf -P 'smtp/inet/smtpd_hard_error_limit=${stress?{1}:{20}}'"},
		{"soft error limit", func(s *scene) { s.set("smtpd_soft_error_limit", "2") }, "error-limit",
			"smtpd_soft_error_limit is 2", "postconf -e 'smtpd_soft_error_limit = 10'"},
		{"sleep", func(s *scene) { s.set("smtpd_error_sleep_time", "1m") }, "error-limit",
			"smtpd_error_sleep_time is 1m", "postconf -e 'smtpd_error_sleep_time = 1s'"},
		{"instances", func(s *scene) { s.set("multi_instance_directories", "/etc/postfix-in") }, "(instances)",
			"/etc/postfix-in",
			"rcpt-milter doctor --postfix-config /etc/postfix-in"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newScene(t, "debian")
			c.plant(s)
			got := s.examine()
			if summary(got) != c.want {
				t.Fatalf("found %q, want %q: %+v", summary(got), c.want, got)
			}
			if !strings.Contains(got[0].What, c.text) || got[0].Why == "" {
				t.Errorf("says %q because %q, want %q", got[0].What, got[0].Why, c.text)
			}
			if c.fix != "" && (len(got[0].Fix) == 0 || got[0].Fix[0] != c.fix) {
				t.Errorf("fixed by %q, want %q", got[0].Fix, c.fix)
			}
		})
	}
}

// TestEmptyDomainReply: the reason says what recipients of an empty domain get by when_not_ready.
func TestEmptyDomainReply(t *testing.T) {
	for reply, want := range map[string]string{
		"": "All recipients there get 451. The name may be misspelt",
		"all recipients there are accepted (when_not_ready: accept)": "All recipients there are accepted " +
			"(when_not_ready: accept). The name may be misspelt",
	} {
		s := newScene(t, "debian")
		s.Empty, s.EmptyReply = []string{"example.org"}, reply
		if got := s.examine(); len(got) != 1 || !strings.HasPrefix(got[0].Why, want) {
			t.Errorf("with %q: %+v, want %q", reply, got, want)
		}
	}
}
