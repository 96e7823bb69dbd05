package config

import (
	"errors"
	"strings"
	"testing"
)

// badKeys: in is the first lines of a file that would be valid without them.
var badKeys = []string{
	"late_after 5m",
	"late_after:5m",
	"late_after: 5m\n\tstale_after: 1h",
	"journal\n  keep: 30d",
	"journal: {keep: 30}",
	`removal_grace: "60"`,
	"confirm: {enabled true}",
	"accept: [a@example.com",
	"accept: [@example.com]",
	`lisen: unix:/x`,
	`Listen: unix:/x`,
	`poll: 5s`,
	`zzz: 1`,
	`password: secret`,
	`listen:`,
	`listen: []`,
	`listen: 25`,
	`listen: unix:milter.sock`,
	`listen: /run/x.sock`,
	`listen: [unix:/run/a, unix:/run/a]`,
	`listen: inet:8894`,
	`listen: inet::8894`,
	`listen: inet:127.0.0.1:0`,
	`listen: inet:127.0.0.1:smtp`,
	`listen: inet:0.0.0.0:8894`,
	`listen: "fd:a b"`,
	`listen: unix:/` + strings.Repeat("a", 114),
	`listen: unix:/run/rcpt-milter/control.sock`,
	`listen_allow: 192.0.2.0/24`,
	`listen_allow: [192.0.2.1/24]`,
	`listen_allow: [example.com]`,
	`listen_allow: ["::ffff:192.0.2.0/120"]`,
	`listen_socketmap: 9926`,
	`listen_socketmap: socketmap:unix:/run/map.sock:recipients`,
	`listen_socketmap: inet:0.0.0.0:9926`,
	`listen_socketmap: unix:/var/spool/postfix/rcpt-milter/milter.sock`,
	`listen_socketmap: [unix:/run/rcpt-milter/control.sock]`,
	`export: /var/lib/rcpt-milter/list`,
	`export: {}`,
	`export: {file: list}`,
	`export: {file: /l, format: hash}`,
	`export: {file: /l, command: postmap lmdb:/l}`,
	`export: {file: /l, command: [postmap, 5]}`,
	`export: {file: /l, command: ["", x]}`,
	`export: {file: /l, every: 5}`,
	`export: {file: /l, every: 0s}`,
	`export: {file: /l, timeout: 0s}`,
	"export: {file: /l}\naccept_files: [/l]",
	`socket: postfix`,
	`socket: {mode: 0660}`,
	`socket: {mode: "0777"}`,
	`socket: {mode: "0060"}`,
	`socket: {mode: rw}`,
	`socket:`,
	`socket: {grp: x}`,
	`socket: {group: 5}`,
	`control: inet:127.0.0.1:1`,
	`control: ""`,
	`metrics: 127.0.0.1:9417`,
	`page: on`,
	`page: {serve: everywhere}`,
	`page: {hosts: ["relay.example.com:9417"]}`,
	`page: {listen: "fd:page"}`,
	`page: {listen: page.sock}`,
	`page: {listen: "inet:127.0.0.1:9418"}`,
	`page: {listen: "inet:0.0.0.0:9418", tokens: /etc/rcpt-milter/tokens}`,
	`page: {listen: "inet:127.0.0.1:9417", tokens: /etc/rcpt-milter/tokens}`,
	`page: {listen: "unix:/run/rcpt-milter/control.sock"}`,
	`page: {listen: "unix:/var/spool/postfix/rcpt-milter/milter.sock"}`,
	`page: {tokens: tokens}`,
	`metrics: 9417`,
	`store: {dir: data}`,
	`store: {dir: ""}`,
	`store: {min_free: 256}`,
	`store: {min_free: 256M}`,
	`store: {min_free: 0MiB}`,
	`store: {encryption_key_file: key}`,
	`store: {rebuild: yes}`,
	`store: {rebuild: always}`,
	`store: auto`,
	`always_accept: [postmaster@example.com]`,
	`always_accept: postmaster`,
	`always_accept: [a, A]`,
	`always_accept: [""]`,
	`removal_grace: 1`,
	`removal_grace: -1h`,
	`removal_grace: soon`,
	`late_after: 0s`,
	`late_after: 0`,
	`stale_after: 4m`,
	`late_after: 5h`,
	`when_stale: reject`,
	`when_not_ready: refuse`,
	`when_stale: true`,
	`limits: {connections: 0}`,
	`limits: {connections: many}`,
	`limits: {connections: 1.5}`,
	`limits: {connections: "10"}`,
	`limits: {idle: 0s}`,
	`journal: {keep: 30 days}`,
	`journal: {keep: 0d}`,
	`log: {format: xml}`,
	`log: {level: trace}`,
	`log: {syslog: maillog}`,
	`log: {addresses: none}`,
	`log: {syslog: 1}`,
	`canaries: {accept: [ceo]}`,
	`canaries: {refuse: nobody@example.com}`,
	`canaries: {accept: [ceo@example.com, CEO@Example.com]}`,
	`canaries: {accept: [ceo@example.com], refuse: [CEO@example.com]}`,
	`accept: [nobody]`,
	`accept: [example.com]`,
	`accept: ["@*.example.com"]`,
	`accept: ["@"]`,
	`accept: [a@example.com, A@EXAMPLE.com]`,
	`accept: "@example.net"`,
	`accept_files: [relay_recipients]`,
	`accept_files: [/etc/a, /etc/./a]`,
	`accept_files: /etc/a`,
	`accept_patterns: ['(x@example\.com']`,
	`accept_patterns: ['a@[z-a]\.example\.com']`,
	`accept_patterns: ['é(?=x)@example\.com']`,
	`accept_patterns: ['(a{1000}){1000}@example\.com']`,
	`accept_patterns: ["srs0=.*@example\.com"]`,
	`accept_patterns: ['it''s', "srs0=.*@example\.com"]`,
	`accept_patterns: [sales]`,
	`accept_patterns: ['[a-z]+']`,
	`accept_patterns: ['.*']`,
	`accept_patterns: ['[^@]+@[^@]+']`,
	`accept_patterns: ['']`,
	`accept_patterns: .*`,
	`refuse: ["@example.com"]`,
	`refuse: [x]`,
	`strip_prefixes: prvs=`,
	`strip_prefixes: [prvs]`,
	`strip_prefixes: ["="]`,
	`strip_prefixes: ["prvs==="]`,
	`strip_prefixes: ["pr.*="]`,
	`strip_prefixes: ["prüfs="]`,
	`strip_prefixes: [prvs=, PRVS=]`,
	`recipient_delimiter: a`,
	`recipient_delimiter: "@"`,
	`recipient_delimiter: "+ "`,
	`recipient_delimiter: "±"`,
	`recipient_delimiter: +-+`,
	`recipient_delimiter: ["+"]`,
	`recipient_delimiter: -`,
	`recipient_delimiter:  -  # as in Postfix`,
	`confirm: {enabled: yes}`,
	`confirm: {timeout: 0s}`,
	`confirm: {timeout: 10s}`,
	`confirm: {per_second: fast}`,
	`confirm: {per_second: 0}`,
	`confirm: {on: true}`,
	`harvest: {unknown: -1}`,
	`harvest: {ratio: 80}`,
	`harvest: {ratio: .nan}`,
	`harvest: {window: 0s}`,
	`harvest: {penalty: 0s}`,
	`harvest: {reply: no}`,
	`harvest: {scope: known}`,
	`harvest: {networks: {ipv4: 33}}`,
	`harvest: {networks: {ipv6: 0}}`,
	`harvest: {networks: [24, 64]}`,
	`harvest: {networks: {ipv6_site: 129}}`,
	`harvest: {mode: off}`,
	`harvest: {mode: pass}`,
	`harvest:`,
	`nat64: "64:ff9b::/96"`,
	`nat64: ["64:ff9b::/95"]`,
	`nat64: ["64:ff9b::1/96"]`,
	`nat64: [192.0.2.0/24]`,
	`nat64: ["64:ff9b::/96", "64:ff9b:0::/96"]`,
	`domain_aliases: example.net`,
	`domain_aliases: [example.net]`,
	`domain_aliases: {example.net: example.com}`,
	`domain_aliases: {sub.example.com: example.com}`,
	`domain_aliases: {example.com: EXAMPLE.com.}`,
	`domain_aliases: {.example.com: example.org}`,
	`domain_aliases: {example.com: .example.org}`,
	`domain_aliases: {"@example.com": example.org}`,
	`domain_aliases: {example.com: "@example.org"}`,
	`domain_aliases: {"*.example.com": example.org}`,
	`domain_aliases: {example.com: [a.example, b.example]}`,
	`domain_aliases: {example.com: ""}`,
	`domain_aliases: {example.com: a.example, Example.COM: b.example}`,
	`inside: 10.0.0.0/8`,
	`inside: {network: [10.0.0.0/8]}`,
	`inside: {networks: [10.0.0.1/8]}`,
	`inside: {networks: ["0.0.0.0/0"]}`,
	`inside: {networks: [10.0.0.0/8, 10.0.0.0/8]}`,
	`exempt: {networks: [192.0.2.1/24]}`,
	`exempt: {networks: ["::/0"]}`,
	`exempt: {networks: 192.0.2.0/24}`,
	`exempt: {authenticated: yes}`,
	"listen:\n- unix:/run/a\n- {x",
	"late_after: 1m\nlate_after: 2m",
	`log: {level: info, level: warn}`,
	`late_after: &a 1m`,
	`late_after: *a`,
	`late_after: !!str 1m`,
	"? late_after\n: 1m",
	`<<: {a: 1}`,
	`late_after: "1\nm"`,
	`late_after: [1m`,
	`late_after: 1m: x`,
	`	late_after: 1m`,
	`late_after: "1m`,
	`late_after: %x`,
	"late_after: \xff",
	"late_after: a\x00",
	`é: 1`,
	`"multi\nline": 1`,
	`5: 1`,
	`null: 1`,
}

// oneDirectory is the end of a valid file.
const oneDirectory = "directories:\n  - name: corp\n    urls: [ldaps://dc1.corp.example]\n    bind: " +
	"{dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n"

// badFiles: in is a whole file.
var badFiles = []string{
	``,
	"# nothing\n",
	`null`,
	`[]`,
	"- a\n",
	`just text`,
	`a:b`,
	"domains: {}\n",
	"domains:\n  example.com: enforce\ndirectories:\n  - name: corp\n    urls: [ldaps://dc1.corp.example]\n    bind: " +
		"{dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n---\nlate_after: 1m\n",
	"%YAML 1.2\n---\ndomains:\n  example.com: enforce\ndirectories:\n  - name: corp\n    urls: " +
		"[ldaps://dc1.corp.example]\n    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n",
	"domains: {example.com: enforce}\n",
	"domains: {a.example: pass}\ndirectories:\n" + strings.Repeat("  - {name: a, urls: [ldaps://x], bind: {dn: a, "+
		"password_file: /p}}\n", 2),
	strings.Repeat("a: [", 80),
	"a:\n  " + strings.Repeat("- ", 80),
	"# " + strings.Repeat("x", maxFile),
	"directories: []\ndomains: {a.example: pass}",
	"domains: {example.com enforce}\n" + oneDirectory,
	"domains: {example.com: enforce, example.org enforce}\n" + oneDirectory,
	"domains: {*.example.com: enforce}\n" + oneDirectory,
	"domains: {example.com: enforce, *.example.org: enforce}\n" + oneDirectory,
	"domains: {example.com: enforce, .example.org enforce}\n" + oneDirectory,
}

// badDomains: in is what domains has.
var badDomains = []string{
	`example.com: on`,
	`example.com:`,
	`"*.example.com": enforce`,
	`"*": enforce`,
	`user@example.com: enforce`,
	`1234: enforce`,
	`"": enforce`,
	`.: enforce`,
	`exa mple.com: enforce`,
	`example.org enforce`,
	"example.com: enforce\n  example.org enforce",
	"example.com: enforce\n  .example.org   report",
	"example.com: enforce\n  my-domain.example\n  example.org: enforce",
	"example.com: enforce\n  example.org:enforce",
	`example.com enforce: pass`,
	`*.example.com: enforce`,
	`.*.example.com: enforce`,
	"a.example: enforce\n  A.example.: report",
	`a.example: {mode: enforce}`,
	`.[192.0.2.1]: pass`,
	"example.com: enforce\n  example.com: report",
}

// badDirectoryKeys: in is added to a valid directory.
var badDirectoryKeys = []string{
	`basis: []`,
	`site: Edge`,
	`site: 5`,
	`discover: corp.example`,
	`discover: [corp.example]`,
	`domains: example.com`,
	`domains: [x@y]`,
	`domains: [example.net]`,
	`bases: [OU]`,
	`bases: ["OU=a,"]`,
	`bases: ["OU=a,DC=x", "ou=A,dc=X"]`,
	`bases: OU=x`,
	`exclude: OU=x`,
	`exclude: [Leavers]`,
	`bases: [OU=Staff,DC=corp,DC=example]`,
	`exclude: ["OU=a,DC=x", "ou=A,dc=X"]`,
	"bases: [\"OU=a,DC=x\"]\n    exclude: [\"ou=A, dc=X\"]",
	"bases: [\"OU=b,DC=x\", \"OU=a,DC=x\"]\n    exclude: [\"DC=x\"]",
	"bases: [\"OU=a,DC=x\"]\n    exclude: [\"OU=c,OU=a,DC=x\", \"OU=aa,DC=x\"]",
	`poll: 0s`,
	`poll: 5`,
	"poll: 1h\n    full: 1m",
	`full: 0s`,
	`replication_lag: -1s`,
	`notify: "true"`,
	`notify: 1`,
	`notify: no`,
	`address_attributes: []`,
	`address_attributes: [mail, Mail]`,
	`address_attributes: ["proxy Addresses"]`,
	`internal_only: deny`,
	`system_mailboxes: refuse`,
	`disabled_accounts: yes`,
	`removal_guard: {percent: -5}`,
	`removal_guard: {percent: 101}`,
	`removal_guard: {percent: 5%}`,
	`removal_guard: {count: -1}`,
	`removal_guard: {max: 1.5}`,
	`removal_guard: {share: -1}`,
	`removal_guard: {share: 30%}`,
	`removal_guard: {window: 0s}`,
	`removal_guard: off`,
	`tls: {ca_file: ca.pem}`,
	`tls: {server_name: "a b"}`,
	`tls: {verify: false}`,
	`name: other`,
}

// badDirectories: in is a directory between braces.
var badDirectories = []string{
	`name: a b, urls: [ldaps://x], bind: {dn: a, password_file: /p}`,
	`name: a, bind: {dn: a, password_file: /p}`,
	`name: a, discover: "", bind: {dn: a, password_file: /p}`,
	`name: a, discover: "a b", site: Edge, bind: {dn: a, password_file: /p}`,
	`name: a, discover: "[192.0.2.1]", bind: {dn: a, password_file: /p}`,
	`name: a, discover: corp.example, site: "a.b", bind: {dn: a, password_file: /p}`,
	`name: a, discover: ldaps://dc1, bind: {dn: a, password_file: /p}`,
	`urls: [ldaps://x]`,
	`name: a, urls: [], bind: {dn: a}`,
	`name: a, urls: ldaps://x, bind: {dn: "", password_file: p}`,
	`name: a, urls: ["ldaps://", "http://x", "ldapi:///", "dc1.corp.example", "ldaps://u:secret@h", ` +
		`"ldaps://x/DC=x", "ldaps://x:0", "ldaps://x:99999", "ldaps://x:y", "ldaps://%zz", "ldaps:dc1"], ` +
		`bind: {dn: a, password: hunter2}`,
	`name: a, urls: [ldaps://x, "ldaps://X:636/"], bind: {keytab: /k, principal: p}`,
	`name: a, urls: [ldaps://x], bind: {dn: "CORP\svc", password_file: /p}`,
	`name: a, urls: [ldaps://x], bind: {dn: "CORP\bob", password_file: /p}`,
	`name: a, urls: [ldaps://x], bind: {keytab: /k}`,
	`name: a, urls: [ldaps://x], bind: {principal: p@X}`,
	`name: a, urls: [ldaps://x], bind: {}`,
	`name: a, urls: [ldaps://x], bind: {keytab: k, principal: p@X}`,
	`name: a, urls: [ldaps://x], bind: {dn: a, keytab: /k, principal: p@X}`,
	`name: a, urls: [ldaps://x], bind: {dn: a, password_file: /p, principal: p@X}`,
	`name: a, urls: ["ldaps://:636"], bind: x`,
}

func TestBadKeys(t *testing.T) {
	testBad(t, "errors-keys.txt", badKeys, func(in string) string { return in + "\n" + smallest })
}

func TestBadFiles(t *testing.T) {
	testBad(t, "errors-files.txt", badFiles, func(in string) string { return in })
}

func TestBadDomains(t *testing.T) {
	_, directories, _ := strings.Cut(smallest, "enforce\n")
	testBad(t, "errors-domains.txt", badDomains, func(in string) string {
		return "domains:\n  " + in + "\n" +
			directories
	})
}

func TestBadDirectories(t *testing.T) {
	testBad(t, "errors-directory-keys.txt", badDirectoryKeys, func(in string) string {
		return smallest + "    " + in +
			"\n"
	})
	testBad(t, "errors-directories.txt", badDirectories, func(in string) string {
		return "domains: {example.com: enforce}\ndirectories:\n  - {" + in + "}\n"
	})
}

// testBad compares the errors of files, made of each input, with a golden file.
func testBad(t *testing.T, file string, inputs []string, whole func(string) string) {
	t.Helper()
	g := openGolden(t, file)
	for _, in := range inputs {
		g.run(t, in, func(t *testing.T) string {
			c, err := Parse("config.yaml", []byte(whole(in)))
			if err == nil {
				t.Fatal("Parse returns no error")
			}
			if c != nil {
				t.Errorf("Parse returns a configuration with the error %v", err)
			}
			if e := (*Error)(nil); !errors.As(err, &e) || e.File != "config.yaml" {
				t.Errorf("%v is no *Error with the name of the file", err)
			}
			return err.Error()
		})
	}
}

// TestManyErrors: past a number of them, they are only counted.
func TestManyErrors(t *testing.T) {
	_, err := Parse("config.yaml", []byte(strings.Repeat("x: 1\n", 25)+smallest))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxErrors+1 || lines[maxErrors] != "config.yaml: 5 more errors" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

// TestSecretsStayOut: an error does not repeat a value that may be a secret in the wrong
// place.
func TestSecretsStayOut(t *testing.T) {
	for _, in := range []string{
		strings.Replace(smallest, "password_file: /etc/rcpt-milter/password", "password: hunter2", 1),
		strings.Replace(smallest, "ldaps://dc1", "ldaps://svc:hunter2@dc1", 1),
		strings.Replace(smallest, "ldaps://dc1", "ldaps://svc:hunter2@%%", 1),
	} {
		if _, err := Parse("config.yaml", []byte(in)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Parse of\n%s\n: %v", in, err)
		}
	}
}

// TestByteOrderMark: some editors begin a file with one.
func TestByteOrderMark(t *testing.T) {
	if _, err := Parse("config.yaml", []byte("\ufeff"+smallest)); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	for _, in := range badKeys {
		f.Add([]byte(in + "\n" + smallest))
	}
	for _, in := range badFiles {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("config.yaml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse(%q) = %v, %v", data, c, err)
		}
		if err == nil && (len(c.Domains) == 0 || len(c.Directories) == 0 || len(c.Listen) == 0) {
			t.Fatalf("Parse(%q) accepts a file without the necessary", data)
		}
		if err != nil && strings.ContainsFunc(strings.ReplaceAll(err.Error(), "\n", ""),
			func(r rune) bool { return r < ' ' && r != '\t' }) {
			t.Fatalf("Parse(%q): control characters in %q", data, err)
		}
	})
}
