package postfix

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
)

// recorded is a set-up as the real postconf 3.7 of Debian printed it.
func recorded(t *testing.T, name string) Settings {
	t.Helper()
	var text []string
	for _, file := range []string{"all", name + "/n", name + "/M", name + "/P"} {
		b, err := os.ReadFile(filepath.Join("testdata", "postconf", file))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, string(b))
	}
	return ParseSettings(text[0], text[1], text[2], text[3])
}

// fakeHost is a host and a daemon made up by a test.
type fakeHost struct {
	tables  map[string]map[string]string
	sockets map[string]Socket
	known   map[string]bool // accepted addresses, and @domain; true: owned too
	links   map[string]string
	denied  Denial
}

func (w *fakeHost) Denied() Denial { return w.denied }

func (w *fakeHost) Keys(table string, visit func(key, value string)) error {
	entries, ok := w.tables[table]
	if !ok {
		return fmt.Errorf("open database %s: No such file or directory", table)
	}
	if entries == nil {
		return ErrCannotList
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		visit(key, entries[key])
	}
	return nil
}

func (w *fakeHost) Has(table, key string) (bool, error) {
	_, has := w.tables[table][key]
	return has, nil
}

func (w *fakeHost) Socket(path, user string) Socket {
	if user != "postfix" {
		return Socket{}
	}
	return w.sockets[path]
}

func (w *fakeHost) Resolve(path string) string {
	for link, target := range w.links {
		if rest, below := strings.CutPrefix(path, link+"/"); below {
			return target + "/" + rest
		}
	}
	return path
}

func (w *fakeHost) Judge(all []address.Address) ([]Judgement, error) {
	var answers []Judgement
	for _, a := range all {
		owned, accepted := w.known[a.String()]
		_, whole := w.known["@"+a.Domain()]
		answers = append(answers, Judgement{Accepted: accepted || whole, Owned: owned})
	}
	return answers, nil
}

const ownSocket = "/var/spool/postfix/rcpt-milter/milter.sock"

// scene is what a test changes.
type scene struct {
	Settings
	Daemon
	fakeHost
}

func newScene(t *testing.T, name string) *scene {
	s := &scene{Settings: recorded(t, name)}
	s.Daemon = Daemon{Listen: []string{"unix:" + ownSocket}, Domains: map[string]string{"example.com": "enforce",
		"example.org": "enforce"},
		AlwaysAccept: []string{"postmaster", "abuse"}, Connections: 2000, State: "fresh"}
	s.sockets = map[string]Socket{ownSocket: {Exists: true, IsSocket: true, Writable: true, Answers: true}}
	s.Daemon.Delimiter = s.Value(nil, "recipient_delimiter")
	s.known = map[string]bool{}
	for _, a := range []string{"postmaster@example.com", "abuse@example.com", "postmaster@example.org",
		"abuse@example.org", "ann@example.com"} {
		s.known[a] = true
	}
	s.tables = map[string]map[string]string{"hash:/etc/aliases": {}}
	return s
}

func (s *scene) set(name, value string) { s.Parameters[name], s.Set[name] = value, true }

// override sets a parameter of a service in master.cf.
func (s *scene) override(service, name, value string) {
	i := slices.IndexFunc(s.Services, func(other Service) bool { return other.String() == service })
	s.Services[i].Overrides[name] = value
}

func (s *scene) service(name string) *Service {
	i := slices.IndexFunc(s.Services, func(other Service) bool { return other.String() == name })
	return &s.Services[i]
}

func (s *scene) examine() []Finding { return Examine(s.Settings, s.Daemon, &s.fakeHost) }

// summary is the names of findings, notes in parentheses.
func summary(all []Finding) string {
	var words []string
	for _, f := range all {
		name := f.Name
		if f.Level == Note {
			name = "(" + name + ")"
		}
		words = append(words, name)
	}
	return strings.Join(words, " ")
}

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
			s.Socketmap = []string{"unix:/var/spool/postfix/rcpt-milter/map.sock"}
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
		}, ""},
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
		{"late", func(s *scene) { s.State = "late" }, "(index-late)", "", "rcpt-milter status"},
		{"alarm", func(s *scene) { s.Alarms = []string{"a certificate expired"} }, "(daemon-alarm)", "a certificate expired",
			"rcpt-milter status"},
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
			"systemctl start rcpt-milter"},
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
		{"command timeout shorter than an answer may take", func(s *scene) { s.Patience = 10 * time.Second }, "timeout",
			"command_timeout of smtp/inet is 10s", ""},
		{"connect timeout long", func(s *scene) {
			s.set("smtpd_milters", "{ unix:rcpt-milter/milter.sock, default_action=tempfail }")
			s.set("milter_connect_timeout", "1h")
		}, "timeout", "connect_timeout of smtp/inet is 1h", ""},
		{"old protocol", func(s *scene) { s.set("milter_protocol", "2") }, "protocol", "smtp/inet is 2",
			"postconf -e 'milter_protocol = 6'"},
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
			s.Socketmap = []string{"unix:/var/spool/postfix/rcpt-milter/map.sock"}
		}, "socketmap-name", "not virtual",
			"postconf -e 'relay_recipient_maps = socketmap:unix:rcpt-milter/map.sock:recipients'"},
		{"SELinux", func(s *scene) { s.denied = Denial{time.Now().Add(-time.Hour), "avc: denied { connectto }"} },
			"selinux-denied", "connectto", ""},
		{"the exported table", func(s *scene) {
			s.set("relay_recipient_maps", "lmdb:/var/lib/rcpt-milter/list")
			s.Export = "/var/lib/rcpt-milter/list"
		}, "old-table", "lmdb:/var/lib/rcpt-milter/list", "postconf -e 'relay_recipient_maps ='"},
		{"a live table of the directory", func(s *scene) { s.set("relay_recipient_maps", "proxy:ldap:/etc/postfix/ad.cf") },
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

// smtpd is a listener that others do not have.
func smtpd(name, chroot string, overrides map[string]string) Service {
	if overrides == nil {
		overrides = map[string]string{}
	}
	return Service{Name: name, Type: "inet", Chroot: chroot, Processes: "-", Program: "smtpd", Overrides: overrides}
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
