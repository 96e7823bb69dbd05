package config

import (
	"strings"
	"testing"
)

type bad struct{ in, want string } // want: all errors, without the file's name

const allKeys = "accept, accept_files, accept_patterns, always_accept, canaries, confirm, control, directories, " +
	"domain_aliases, domains, exempt, harvest, inside, journal, late_after, limits, listen, listen_allow, log, metrics, page, recipient_delimiter, " +
	"refuse, removal_grace, socket, stale_after, store, when_not_ready, when_stale"

// badKeys: in is the first lines of a file that would be valid without them.
var badKeys = []bad{
	{`lisen: unix:/x`, `1:1: unknown key "lisen"; did you mean "listen"?`},
	{`Listen: unix:/x`, `1:1: unknown key "Listen"; did you mean "listen"?`},
	{`poll: 5s`, `1:1: unknown key "poll"; the keys are ALL`},
	{`zzz: 1`, `1:1: unknown key "zzz"; the keys are ALL`},
	{`password: secret`, `1:1: unknown key "password"; the keys are ALL`},
	{`listen:`, `1:8: listen: expected a text, or a list of listeners in brackets, got nothing`},
	{`listen: []`, `1:9: listen: expected listeners, got an empty list`},
	{`listen: 25`, `1:9: listen: expected a text, or a list of listeners in brackets, got 25 without quotes`},
	{`listen: unix:milter.sock`, `1:9: listen: expected an absolute path, which begins with /, got "milter.sock"`},
	{`listen: /run/x.sock`, `1:9: listen: expected unix:/path, inet:host:port or fd:, got "/run/x.sock"`},
	{`listen: [unix:/run/a, unix:/run/a]`, `1:23: listen[1]: "unix:/run/a" is in the list twice`},
	{`listen: inet:8894`, `1:9: listen: expected inet:host:port, got "inet:8894"`},
	{`listen: inet::8894`, `1:9: listen: expected a host before the port, got "inet::8894"; 0.0.0.0 or [::] stands for all`},
	{`listen: inet:127.0.0.1:0`, `1:9: listen: expected a port from 1 to 65535, got "0"`},
	{`listen: inet:127.0.0.1:smtp`, `1:9: listen: expected a port from 1 to 65535, got "smtp"`},
	{`listen: inet:0.0.0.0:8894`, `1:9: listen: inet:0.0.0.0:8894 can be reached from other hosts, so listen_allow has to name the networks that may connect`},
	{`listen: "fd:a b"`, `1:9: listen: expected fd: or fd:name, the FileDescriptorName= of a socket unit, got "fd:a b"`},
	{`listen: unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`, `1:9: listen: a socket's path may have 102 octets at most, this one has 115`},
	{`listen: unix:/run/rcpt-milter/control.sock`, `1:9: listen: unix:/run/rcpt-milter/control.sock is used for something else as well`},
	{`listen_allow: 192.0.2.0/24`, `1:15: listen_allow: expected a list of networks in brackets, got "192.0.2.0/24"`},
	{`listen_allow: [192.0.2.1/24]`, `1:16: listen_allow[0]: "192.0.2.1/24" has bits of a host; the network is 192.0.2.0/24`},
	{`listen_allow: [example.com]`, `1:16: listen_allow[0]: expected a network such as 192.0.2.0/24 or an address, got "example.com"`},
	{`listen_allow: ["::ffff:192.0.2.0/120"]`, `1:16: listen_allow[0]: "::ffff:192.0.2.0/120" is an IPv4 network in IPv6 clothes; write it as IPv4`},
	{`socket: postfix`, `1:9: socket: expected keys with values (group, mode), got "postfix"`},
	{`socket: {mode: 0660}`, `1:16: socket.mode: expected a text, got 0660 without quotes`},
	{`socket: {mode: "0777"}`, `1:16: socket.mode: expected the mode of a socket in quotes, such as "0660", got "0777"`},
	{`socket: {mode: "0060"}`, `1:16: socket.mode: the owner of a socket must be able to read and write it, as in "0660"`},
	{`socket: {mode: rw}`, `1:16: socket.mode: expected the mode of a socket in quotes, such as "0660", got "rw"`},
	{`socket:`, `1:8: socket: expected keys with values (group, mode), got nothing`},
	{`socket: {grp: x}`, `1:10: unknown key "grp" in socket; the keys are group, mode`},
	{`socket: {group: 5}`, `1:17: socket.group: expected a text, got 5 without quotes`},
	{`control: inet:127.0.0.1:1`, `1:10: control: expected unix:/path, got "inet:127.0.0.1:1"`},
	{`control: ""`, `1:10: control: expected unix:/path, got ""`},
	{`metrics: 127.0.0.1:9417`, `1:10: metrics: expected inet:host:port, or "" for none, got "127.0.0.1:9417"`},
	{`page: on`, `1:7: page: expected keys with values (hosts, serve), got "on"`},
	{`page: {serve: everywhere}`, `1:15: page.serve: expected "loopback", "always" or "never", got "everywhere"`},
	{`page: {hosts: ["relay.example.com:9417"]}`, `1:16: page.hosts[0]: expected a host name such as relay.example.com, got "relay.example.com:9417"`},
	{`metrics: 9417`, `1:10: metrics: expected a text, got 9417 without quotes`},
	{`store: {dir: data}`, `1:14: store.dir: expected an absolute path, which begins with /, got "data"`},
	{`store: {dir: ""}`, `1:14: store.dir: expected an absolute path, which begins with /, got ""`},
	{`store: {min_free: 256}`, `1:19: store.min_free: expected a size with a unit such as 256MiB or 2GiB, got 256 without quotes`},
	{`store: {min_free: 256M}`, `1:19: store.min_free: expected a size with a unit such as 256MiB or 2GiB, got "256M"`},
	{`store: {min_free: 0MiB}`, `1:19: store.min_free: must be more than zero, got "0MiB"`},
	{`store: {encryption_key_file: key}`, `1:30: store.encryption_key_file: expected an absolute path, which begins with /, got "key"`},
	{`always_accept: [postmaster@example.com]`, `1:17: always_accept[0]: expected a local part, which is what stands before the @, got "postmaster@example.com"`},
	{`always_accept: postmaster`, `1:16: always_accept: expected a list of local parts in brackets, got "postmaster"`},
	{`always_accept: [a, A]`, `1:20: always_accept[1]: "A" is in the list twice`},
	{`always_accept: [""]`, `1:17: always_accept[0]: expected a local part, which is what stands before the @, got ""`},
	{`removal_grace: 1`, `1:16: removal_grace: expected a duration such as 5s, 15m, 24h or 30d, got 1 without quotes`},
	{`removal_grace: -1h`, `1:16: removal_grace: expected a duration such as 5s, 15m, 24h or 30d, got "-1h"`},
	{`removal_grace: soon`, `1:16: removal_grace: expected a duration such as 5s, 15m, 24h or 30d, got "soon"`},
	{`late_after: 0s`, `1:13: late_after: must be more than zero, got "0s"`},
	{`late_after: 0`, `1:13: late_after: expected a duration such as 5s, 15m, 24h or 30d, got 0 without quotes`},
	{`stale_after: 4m`, `1:14: stale_after (4m) is below late_after (5m)`},
	{`late_after: 5h`, `1:13: stale_after (30m) is below late_after (5h)`},
	{`when_stale: reject`, `1:13: when_stale: expected "tempfail", "accept" or "refuse", got "reject"`},
	{`when_not_ready: refuse`, `1:17: when_not_ready: expected "tempfail" or "accept", got "refuse"`},
	{`when_stale: true`, `1:13: when_stale: expected "tempfail", "accept" or "refuse", got true without quotes`},
	{`limits: {connections: 0}`, `1:23: limits.connections: expected a whole number from 1 to 1000000, got 0`},
	{`limits: {connections: many}`, `1:23: limits.connections: expected a whole number from 1 to 1000000, got "many"`},
	{`limits: {connections: 1.5}`, `1:23: limits.connections: expected a whole number from 1 to 1000000, got 1.5`},
	{`limits: {connections: "10"}`, `1:23: limits.connections: expected a whole number from 1 to 1000000, got "10"`},
	{`limits: {idle: 0s}`, `1:16: limits.idle: must be more than zero, got "0s"`},
	{`journal: {keep: 30 days}`, `1:17: journal.keep: expected a duration such as 5s, 15m, 24h or 30d, got "30 days"`},
	{`journal: {keep: 0d}`, `1:17: journal.keep: must be more than zero, got "0d"`},
	{`log: {format: xml}`, `1:15: log.format: expected "text" or "json", got "xml"`},
	{`log: {level: trace}`, `1:14: log.level: expected "debug", "info", "warn" or "error", got "trace"`},
	{`log: {syslog: maillog}`, `1:15: log.syslog: expected a facility of syslog such as mail, daemon or local0, or "" for none, got "maillog"`},
	{`log: {addresses: none}`, `1:18: log.addresses: expected "full" or "hash", got "none"`},
	{`log: {syslog: 1}`, `1:15: log.syslog: expected a text, got 1 without quotes`},
	{`canaries: {accept: [ceo]}`, `1:21: canaries.accept[0]: expected an address such as ceo@example.com, got "ceo"`},
	{`canaries: {refuse: nobody@example.com}`, `1:20: canaries.refuse: expected a list of addresses in brackets, got "nobody@example.com"`},
	{`canaries: {accept: [ceo@example.com, CEO@Example.com]}`, `1:38: canaries.accept[1]: "CEO@Example.com" is in the list twice`},
	{`canaries: {accept: [ceo@example.com], refuse: [CEO@example.com]}`, `1:48: canaries.refuse[0]: "ceo@example.com" is in canaries.accept as well`},
	{`accept: [nobody]`, `1:10: accept[0]: expected an address, or a whole domain such as "@example.com", got "nobody"`},
	{`accept: [example.com]`, `1:10: accept[0]: expected an address, or a whole domain such as "@example.com", got "example.com"`},
	{`accept: ["@*.example.com"]`, `1:10: accept[0]: expected a domain behind the @, such as "@example.com", got "@*.example.com"`},
	{`accept: ["@"]`, `1:10: accept[0]: expected a domain behind the @, such as "@example.com", got "@"`},
	{`accept: [a@example.com, A@EXAMPLE.com]`, `1:25: accept[1]: "A@EXAMPLE.com" is in the list twice`},
	{`accept: "@example.net"`, `1:9: accept: expected a list of addresses in brackets, got "@example.net"`},
	{`accept_files: [relay_recipients]`, `1:16: accept_files[0]: expected an absolute path, which begins with /, got "relay_recipients"`},
	{`accept_files: [/etc/a, /etc/./a]`, `1:24: accept_files[1]: "/etc/./a" is in the list twice`},
	{`accept_files: /etc/a`, `1:15: accept_files: expected a list of files in brackets, got "/etc/a"`},
	{`accept_patterns: ['(x@example\.com']`, `1:19: accept_patterns[0]: "(x@example\\.com" is no regular expression (RE2): missing closing )`},
	{`accept_patterns: ['a@[z-a]\.example\.com']`, `1:19: accept_patterns[0]: "a@[z-a]\\.example\\.com" is no regular expression (RE2): invalid character class range at its character 4, "z-a"`},
	{`accept_patterns: ['é(?=x)@example\.com']`, `1:19: accept_patterns[0]: "é(?=x)@example\\.com" is no regular expression (RE2): invalid or unsupported Perl syntax at its character 2, "(?="`},
	{`accept_patterns: ['(a{1000}){1000}@example\.com']`, `1:19: accept_patterns[0]: "(a{1000}){1000}@example\\.com" is no regular expression (RE2): invalid repeat count, "{1000}"`},
	{`accept_patterns: [sales]`, `1:19: accept_patterns[0]: "sales" matches no address: a pattern is compared with the whole of it, as "sales-.*@example\\.com" is`},
	{`accept_patterns: ['[a-z]+']`, `1:19: accept_patterns[0]: "[a-z]+" matches no address: a pattern is compared with the whole of it, as "sales-.*@example\\.com" is`},
	{`accept_patterns: ['.*']`, `1:19: accept_patterns[0]: ".*" matches every address, so that no recipient would be refused; a whole domain is accepted by "@example.com" in accept`},
	{`accept_patterns: ['[^@]+@[^@]+']`, `1:19: accept_patterns[0]: "[^@]+@[^@]+" matches every address, so that no recipient would be refused; a whole domain is accepted by "@example.com" in accept`},
	{`accept_patterns: ['']`, `1:19: accept_patterns[0]: must not be empty`},
	{`accept_patterns: .*`, `1:18: accept_patterns: expected a list of patterns in brackets, got ".*"`},
	{`refuse: ["@example.com"]`, `1:10: refuse[0]: expected an address, got the domain "@example.com"; who is not known in it is refused already`},
	{`refuse: [x]`, `1:10: refuse[0]: expected an address such as ceo@example.com, got "x"`},
	{`recipient_delimiter: a`, `1:22: recipient_delimiter: expected characters such as "+" or "+-" that may begin the extension of an address, got "a"`},
	{`recipient_delimiter: "@"`, `1:22: recipient_delimiter: expected characters such as "+" or "+-" that may begin the extension of an address, got "@"`},
	{`recipient_delimiter: "+ "`, `1:22: recipient_delimiter: expected characters such as "+" or "+-" that may begin the extension of an address, got "+ "`},
	{`recipient_delimiter: "±"`, `1:22: recipient_delimiter: expected characters such as "+" or "+-" that may begin the extension of an address, got "±"`},
	{`recipient_delimiter: +-+`, `1:22: recipient_delimiter: "+-+" has the character "+" twice`},
	{`recipient_delimiter: ["+"]`, `1:22: recipient_delimiter: expected a text, got a list`},
	{`confirm: {enabled: yes}`, `1:20: confirm.enabled: expected true or false, got "yes"`},
	{`confirm: {timeout: 0s}`, `1:20: confirm.timeout: must be more than zero, got "0s"`},
	{`confirm: {timeout: 10s}`, `1:20: confirm.timeout: 10s is not below 10s, which is how long Postfix is told to wait for an answer (command_timeout)`},
	{`confirm: {per_second: fast}`, `1:23: confirm.per_second: expected a number from 0.1 to 10000, got "fast"`},
	{`confirm: {per_second: 0}`, `1:23: confirm.per_second: expected a number from 0.1 to 10000, got 0`},
	{`confirm: {on: true}`, `1:11: unknown key "on" in confirm; the keys are enabled, per_second, timeout`},
	{`harvest: {unknown: -1}`, `1:20: harvest.unknown: expected a whole number from 0 to 1000000, got -1`},
	{`harvest: {ratio: 80}`, `1:18: harvest.ratio: expected a number from 0 to 1, got 80`},
	{`harvest: {ratio: .nan}`, `1:18: harvest.ratio: expected a number from 0 to 1, got .nan`},
	{`harvest: {window: 0s}`, `1:19: harvest.window: must be more than zero, got "0s"`},
	{`harvest: {penalty: 0s}`, `1:20: harvest.penalty: must be more than zero, got "0s"`},
	{`harvest: {reply: no}`, `1:18: harvest.reply: expected "hangup" or "tempfail", got "no"`},
	{`harvest: {scope: known}`, `1:18: harvest.scope: expected "unknown" or "all", got "known"`},
	{`harvest: {networks: {ipv4: 33}}`, `1:28: harvest.networks.ipv4: expected a whole number from 8 to 32, got 33`},
	{`harvest: {networks: {ipv6: 0}}`, `1:28: harvest.networks.ipv6: expected a whole number from 16 to 128, got 0`},
	{`harvest: {networks: [24, 64]}`, `1:21: harvest.networks: expected keys with values (ipv4, ipv6), got a list`},
	{`domain_aliases: example.net`, `1:17: domain_aliases: expected domains with the domain that each is an alias of, such as "example.net: example.com", got "example.net"`},
	{`domain_aliases: [example.net]`, `1:17: domain_aliases: expected domains with the domain that each is an alias of, such as "example.net: example.com", got a list`},
	{`domain_aliases: {example.net: example.com}`, `1:18: domain_aliases: "example.net" is not judged here, so every recipient in it would be accepted; add it to domains with a mode of its own`},
	{`domain_aliases: {sub.example.com: example.com}`, `1:18: domain_aliases: "sub.example.com" is not judged here, so every recipient in it would be accepted; add it to domains with a mode of its own`},
	{`domain_aliases: {example.com: EXAMPLE.com.}`, `1:18: domain_aliases: "example.com" leads back to itself (example.com → example.com); leave out one of the steps`},
	{`domain_aliases: {.example.com: example.org}`, `1:18: domain_aliases: expected one domain such as "example.com", got ".example.com"; name each sub-domain by itself`},
	{`domain_aliases: {example.com: .example.org}`, `1:31: domain_aliases["example.com"]: expected one domain such as "example.org", got ".example.org"; name each sub-domain by itself`},
	{`domain_aliases: {"@example.com": example.org}`, `1:18: domain_aliases: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got "@example.com"`},
	{`domain_aliases: {example.com: "@example.org"}`, `1:31: domain_aliases["example.com"]: expected a domain such as "example.org", or ".example.org" for all its sub-domains, got "@example.org"`},
	{`domain_aliases: {"*.example.com": example.org}`, `1:18: domain_aliases: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got "*.example.com"`},
	{`domain_aliases: {example.com: [a.example, b.example]}`, `1:31: domain_aliases["example.com"]: expected a text, got a list`},
	{`domain_aliases: {example.com: ""}`, `1:31: domain_aliases["example.com"]: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got ""`},
	{`domain_aliases: {example.com: a.example, Example.COM: b.example}`, `1:42: domain_aliases: "Example.COM" for the second time; the first is in line 1`},
	{`inside: 10.0.0.0/8`, `1:9: inside: expected keys with values (networks), got "10.0.0.0/8"`},
	{`inside: {network: [10.0.0.0/8]}`, `1:10: unknown key "network" in inside; did you mean "networks"?`},
	{`inside: {networks: [10.0.0.1/8]}`, `1:21: inside.networks[0]: "10.0.0.1/8" has bits of a host; the network is 10.0.0.0/8`},
	{`inside: {networks: ["0.0.0.0/0"]}`, `1:21: inside.networks[0]: "0.0.0.0/0" is every client, which would open internal-only recipients to all; set internal_only to accept for that`},
	{`inside: {networks: [10.0.0.0/8, 10.0.0.0/8]}`, `1:33: inside.networks[1]: "10.0.0.0/8" is in the list twice`},
	{`exempt: {networks: [192.0.2.1/24]}`, `1:21: exempt.networks[0]: "192.0.2.1/24" has bits of a host; the network is 192.0.2.0/24`},
	{`exempt: {networks: ["::/0"]}`, `1:21: exempt.networks[0]: "::/0" is every client, to whom nothing would be refused; to refuse nothing, set the domains to report or pass`},
	{`exempt: {networks: 192.0.2.0/24}`, `1:20: exempt.networks: expected a list of networks in brackets, got "192.0.2.0/24"`},
	{`exempt: {authenticated: yes}`, `1:25: exempt.authenticated: expected true or false, got "yes"`},
	{"late_after: 1m\nlate_after: 2m", `2:1: key "late_after" for the second time; the first is in line 1`},
	{`log: {level: info, level: warn}`, `1:20: key "level" for the second time in log; the first is in line 1`},
	{`late_after: &a 1m`, `1:13: anchors, aliases, tags and complex keys are not read; write the value out`},
	{`late_after: *a`, `1:13: anchors, aliases, tags and complex keys are not read; write the value out`},
	{`late_after: !!str 1m`, `1:13: anchors, aliases, tags and complex keys are not read; write the value out`},
	{"? late_after\n: 1m", `1:1: anchors, aliases, tags and complex keys are not read; write the value out`},
	{`<<: {a: 1}`, `1:1: anchors, aliases, tags and complex keys are not read; write the value out`},
	{`late_after: "1\nm"`, `1:13: late_after: expected a duration such as 5s, 15m, 24h or 30d, got "1\nm"`},
	{`late_after: [1m`, `2:1: not readable as YAML: ',' or ']' must be specified`},
	{`late_after: 1m: x`, `1:13: not readable as YAML: mapping value is not allowed in this context`},
	{`	late_after: 1m`, `1:11: not readable as YAML: tab character cannot use as a map key directly`},
	{`late_after: "1m`, `1:13: not readable as YAML: could not find end character of double-quoted text`},
	{`late_after: %x`, `1:13: not readable as YAML: unexpected directive value. document not started`},
	{"late_after: \xff", `1:1: not valid UTF-8`},
	{"late_after: a\x00", `1:1: has a NUL character; this is not a text file`},
	{`é: 1`, `1:1: unknown key "é"; the keys are ALL`},
	{`"multi\nline": 1`, `1:1: unknown key "multi\nline"; the keys are ALL`},
	{`5: 1`, `1:1: unknown key "5"; the keys are ALL`},
	{`null: 1`, `1:1: unknown key "null"; the keys are ALL`},
}

// badFiles: in is a whole file.
var badFiles = []bad{
	{``, ` empty; expected at least domains and directories`},
	{"# nothing\n", ` empty; expected at least domains and directories`},
	{`null`, `1:1: expected keys with values, such as "poll: 5s", got nothing`},
	{`[]`, `1:1: expected keys with values, such as "poll: 5s", got a list`},
	{"- a\n", `1:1: expected keys with values, such as "poll: 5s", got a list`},
	{`just text`, `1:1: expected keys with values, such as "poll: 5s", got "just text"`},
	{`a:b`, `1:1: expected keys with values, such as "poll: 5s", got "a:b"`},
	{"domains: {}\n", `1:1: key "directories" is missing
1:10: domains: expected at least one domain, such as "example.com: enforce"`},
	{"domains:\n  example.com: enforce\ndirectories:\n  - name: corp\n    urls: [ldaps://dc1.corp.example]\n    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n---\nlate_after: 1m\n", `7:1: has several YAML documents or a %YAML directive; write one document`},
	{"%YAML 1.2\n---\ndomains:\n  example.com: enforce\ndirectories:\n  - name: corp\n    urls: [ldaps://dc1.corp.example]\n    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n", `2:1: has several YAML documents or a %YAML directive; write one document`},
	{"domains: {example.com: enforce}\n", `1:1: key "directories" is missing`},
	{"domains: {a.example: pass}\ndirectories:\n" + strings.Repeat("  - {name: a, urls: [ldaps://x], bind: {dn: a, password_file: /p}}\n", 2), `4:12: directories[1].name: directories[0] has the name "a" as well`},
	{strings.Repeat("a: [", 80), `1:1: nested too deep`},
	{"a:\n  " + strings.Repeat("- ", 80), `2:1: nested too deep`},
	{"# " + strings.Repeat("x", maxFile), ` larger than 512 KiB; this is not a configuration file`},
	{"directories: []\ndomains: {a.example: pass}", `1:14: directories: expected at least one directory`},
}

// badDomains: in is what domains has.
var badDomains = []bad{
	{`example.com: on`, `2:16: domains["example.com"]: expected "enforce", "report" or "pass", got "on"`},
	{`example.com:`, `2:15: domains["example.com"]: expected "enforce", "report" or "pass", got nothing`},
	{`"*.example.com": enforce`, `2:3: domains: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got "*.example.com"`},
	{`"*": enforce`, `2:3: domains: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got "*"`},
	{`user@example.com: enforce`, `2:3: domains: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got "user@example.com"`},
	{`1234: enforce`, `2:3: domains: expected a domain in quotes, got 1234 without quotes`},
	{`"": enforce`, `2:3: domains: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got ""`},
	{`.: enforce`, `2:3: domains: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got "."`},
	{`exa mple.com: enforce`, `2:3: domains: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got "exa mple.com"`},
	{"a.example: enforce\n  A.example.: report", `3:3: domains: "A.example." for the second time; the first is in line 2`},
	{`a.example: {mode: enforce}`, `2:14: domains["a.example"]: expected "enforce", "report" or "pass", got a mapping`},
	{`.[192.0.2.1]: pass`, `2:3: domains: expected a domain such as "example.com", or ".example.com" for all its sub-domains, got ".[192.0.2.1]"`},
	{"example.com: enforce\n  example.com: report", `3:3: domains: "example.com" for the second time; the first is in line 2`},
}

// badDirectoryKeys: in is added to a valid directory.
var badDirectoryKeys = []bad{
	{`basis: []`, `7:5: unknown key "basis" in directories[0]; did you mean "bases"?`},
	{`site: Edge`, `7:11: directories[0].site: a site is of use only together with discover`},
	{`site: 5`, `7:11: directories[0].site: expected a text, got 5 without quotes`},
	{`discover: corp.example`, `7:15: directories[0].discover: the domain controllers are listed in urls already; leave out one of the two`},
	{`discover: [corp.example]`, `7:15: directories[0].discover: expected a text, got a list`},
	{`domains: example.com`, `7:14: directories[0].domains: expected a list of domains in brackets, got "example.com"`},
	{`domains: [x@y]`, `7:15: directories[0].domains[0]: expected a domain such as "y", or ".y" for all its sub-domains, got "x@y"`},
	{`domains: [example.net]`, `2:3: domains: no directory owns "example.com", so every recipient in it would be refused; add it to the domains of a directory, or set it to pass`},
	{`bases: [OU]`, `7:13: directories[0].bases[0]: expected a distinguished name such as OU=Staff,DC=corp,DC=example, got "OU"`},
	{`bases: ["OU=a,"]`, `7:13: directories[0].bases[0]: expected a distinguished name such as OU=Staff,DC=corp,DC=example, got "OU=a,"`},
	{`bases: ["OU=a,DC=x", "ou=A,dc=X"]`, `7:26: directories[0].bases[1]: "ou=A,dc=X" is in the list twice`},
	{`bases: OU=x`, `7:12: directories[0].bases: expected a list of distinguished names in brackets, got "OU=x"`},
	{`exclude: OU=x`, `7:14: directories[0].exclude: expected a list of distinguished names in brackets, got "OU=x"`},
	{`exclude: [Leavers]`, `7:15: directories[0].exclude[0]: expected a distinguished name such as OU=Staff,DC=corp,DC=example, got "Leavers"`},
	{`exclude: ["OU=a,DC=x", "ou=A,dc=X"]`, `7:28: directories[0].exclude[1]: "ou=A,dc=X" is in the list twice`},
	{"bases: [\"OU=a,DC=x\"]\n    exclude: [\"ou=A, dc=X\"]", `8:15: directories[0].exclude[0]: "ou=A, dc=X" contains the base "OU=a,DC=x", so nothing of that base would count; take one of the two out`},
	{"bases: [\"OU=b,DC=x\", \"OU=a,DC=x\"]\n    exclude: [\"DC=x\"]", `8:15: directories[0].exclude[0]: "DC=x" contains the base "OU=b,DC=x", so nothing of that base would count; take one of the two out`},
	{"bases: [\"OU=a,DC=x\"]\n    exclude: [\"OU=c,OU=a,DC=x\", \"OU=aa,DC=x\"]", `8:33: directories[0].exclude[1]: "OU=aa,DC=x" is outside all bases, so it excludes nothing; correct it, or take it out`},
	{`poll: 0s`, `7:11: directories[0].poll: must be more than zero, got "0s"`},
	{`poll: 5`, `7:11: directories[0].poll: expected a duration such as 5s, 15m, 24h or 30d, got 5 without quotes`},
	{"poll: 1h\n    full: 1m", `8:11: directories[0].full: full (1m) is below poll (1h)`},
	{`full: 0s`, `7:11: directories[0].full: must be more than zero, got "0s"`},
	{`replication_lag: -1s`, `7:22: directories[0].replication_lag: expected a duration such as 5s, 15m, 24h or 30d, got "-1s"`},
	{`notify: "true"`, `7:13: directories[0].notify: expected true or false, got "true"`},
	{`notify: 1`, `7:13: directories[0].notify: expected true or false, got 1 without quotes`},
	{`notify: no`, `7:13: directories[0].notify: expected true or false, got "no"`},
	{`address_attributes: []`, `7:25: directories[0].address_attributes: expected attributes, got an empty list`},
	{`address_attributes: [mail, Mail]`, `7:32: directories[0].address_attributes[1]: "Mail" is in the list twice`},
	{`address_attributes: ["proxy Addresses"]`, `7:26: directories[0].address_attributes[0]: expected the name of an attribute such as proxyAddresses, got "proxy Addresses"`},
	{`internal_only: deny`, `7:20: directories[0].internal_only: expected "accept" or "refuse", got "deny"`},
	{`system_mailboxes: refuse`, `7:23: directories[0].system_mailboxes: expected "accept" or "omit", got "refuse"`},
	{`disabled_accounts: yes`, `7:24: directories[0].disabled_accounts: expected "accept" or "omit", got "yes"`},
	{`removal_guard: {percent: -5}`, `7:30: directories[0].removal_guard.percent: expected a number from 0 to 100, got -5`},
	{`removal_guard: {percent: 101}`, `7:30: directories[0].removal_guard.percent: expected a number from 0 to 100, got 101`},
	{`removal_guard: {percent: 5%}`, `7:30: directories[0].removal_guard.percent: expected a number from 0 to 100, got "5%"`},
	{`removal_guard: {count: -1}`, `7:28: directories[0].removal_guard.count: expected a whole number from 0 to 1000000000, got -1`},
	{`removal_guard: {max: 1.5}`, `7:26: directories[0].removal_guard.max: expected a whole number from 0 to 1000000000, got 1.5`},
	{`removal_guard: {share: -1}`, `7:28: directories[0].removal_guard.share: expected a number from 0 to 100, got -1`},
	{`removal_guard: {share: 30%}`, `7:28: directories[0].removal_guard.share: expected a number from 0 to 100, got "30%"`},
	{`removal_guard: {window: 0s}`, `7:29: directories[0].removal_guard.window: must be more than zero, got "0s"`},
	{`removal_guard: off`, `7:20: directories[0].removal_guard: expected keys with values (count, max, percent, share, window), got "off"`},
	{`tls: {ca_file: ca.pem}`, `7:20: directories[0].tls.ca_file: expected an absolute path, which begins with /, got "ca.pem"`},
	{`tls: {server_name: "a b"}`, `7:24: directories[0].tls.server_name: expected a host name such as dc1.corp.example, got "a b"`},
	{`tls: {verify: false}`, `7:11: unknown key "verify" in directories[0].tls; the keys are ca_file, server_name`},
	{`name: other`, `7:5: key "name" for the second time in directories[0]; the first is in line 4`},
}

// badDirectories: in is a directory between braces.
var badDirectories = []bad{
	{`name: a b, urls: [ldaps://x], bind: {dn: a, password_file: /p}`, `3:12: directories[0].name: expected a name of letters, digits, dots, dashes and underscores, 64 at most, got "a b"`},
	{`name: a, bind: {dn: a, password_file: /p}`, `3:5: key "urls" is missing in directories[0]; list the domain controllers in it, or name the domain to find them in DNS in "discover"`},
	{`name: a, discover: "", bind: {dn: a, password_file: /p}`, `3:5: key "urls" is missing in directories[0]; list the domain controllers in it, or name the domain to find them in DNS in "discover"`},
	{`name: a, discover: "a b", site: Edge, bind: {dn: a, password_file: /p}`, `3:25: directories[0].discover: expected the DNS name of an Active Directory domain such as corp.example, got "a b"`},
	{`name: a, discover: "[192.0.2.1]", bind: {dn: a, password_file: /p}`, `3:25: directories[0].discover: expected the DNS name of an Active Directory domain such as corp.example, got "[192.0.2.1]"`},
	{`name: a, discover: corp.example, site: "a.b", bind: {dn: a, password_file: /p}`, `3:45: directories[0].site: expected the name of an Active Directory site such as Edge, got "a.b"`},
	{`name: a, discover: ldaps://dc1, bind: {dn: a, password_file: /p}`, `3:25: directories[0].discover: expected the DNS name of an Active Directory domain such as corp.example, got "ldaps://dc1"`},
	{`urls: [ldaps://x]`, `3:5: key "name" is missing in directories[0]
3:5: key "bind" is missing in directories[0]`},
	{`name: a, urls: [], bind: {dn: a}`, `3:21: directories[0].urls: expected LDAP URLs, got an empty list
3:31: key "password_file" is missing in directories[0].bind`},
	{`name: a, urls: ldaps://x, bind: {dn: "", password_file: p}`, `3:21: directories[0].urls: expected a list of LDAP URLs in brackets, got "ldaps://x"
3:43: directories[0].bind.dn: must not be empty
3:62: directories[0].bind.password_file: expected an absolute path, which begins with /, got "p"`},
	{`name: a, urls: ["ldaps://", "http://x", "ldapi:///", "dc1.corp.example", "ldaps://u:secret@h", "ldaps://x/DC=x", "ldaps://x:0", "ldaps://x:99999", "ldaps://x:y", "ldaps://%zz", "ldaps:dc1"], bind: {dn: a, password: hunter2}`, `3:22: directories[0].urls[0]: expected a host after ldaps://, got "ldaps://"
3:34: directories[0].urls[1]: expected a URL such as ldaps://dc1.corp.example, or ldap:// for StartTLS, got "http://x"
3:46: directories[0].urls[2]: expected a URL such as ldaps://dc1.corp.example, or ldap:// for StartTLS, got "ldapi:///"
3:59: directories[0].urls[3]: expected a URL such as ldaps://dc1.corp.example, or ldap:// for StartTLS, got "dc1.corp.example"
3:79: directories[0].urls[4]: a URL must not name a user or a password; they belong in bind
3:101: directories[0].urls[5]: expected nothing after the host and port, got "ldaps://x/DC=x"; search bases belong in bases
3:119: directories[0].urls[6]: expected a port from 1 to 65535, got "0"
3:134: directories[0].urls[7]: expected a port from 1 to 65535, got "99999"
3:153: directories[0].urls[8]: expected a URL such as ldaps://dc1.corp.example, got something unreadable
3:168: directories[0].urls[9]: expected a URL such as ldaps://dc1.corp.example, got something unreadable
3:183: directories[0].urls[10]: expected a URL such as ldaps://dc1.corp.example, or ldap:// for StartTLS, got "ldaps:dc1"
3:203: key "password_file" is missing in directories[0].bind
3:211: unknown key "password" in directories[0].bind; did you mean "password_file"?`},
	{`name: a, urls: [ldaps://x, "ldaps://X:636/"], bind: {keytab: /k, principal: p}`, `3:33: directories[0].urls[1]: "ldaps://X:636/" is in the list twice
3:82: directories[0].bind.principal: expected a Kerberos principal such as svc-mail@CORP.EXAMPLE, got "p"`},
	{`name: a, urls: [ldaps://x], bind: {keytab: /k}`, `3:40: key "principal" is missing in directories[0].bind`},
	{`name: a, urls: [ldaps://x], bind: {principal: p@X}`, `3:40: key "keytab" is missing in directories[0].bind`},
	{`name: a, urls: [ldaps://x], bind: {}`, `3:40: key "dn" is missing in directories[0].bind
3:40: key "password_file" is missing in directories[0].bind`},
	{`name: a, urls: [ldaps://x], bind: {keytab: k, principal: p@X}`, `3:49: directories[0].bind.keytab: expected an absolute path, which begins with /, got "k"`},
	{`name: a, urls: [ldaps://x], bind: {dn: a, keytab: /k, principal: p@X}`, `3:56: directories[0].bind: expected dn and password_file, or keytab and principal, got some of both`},
	{`name: a, urls: [ldaps://x], bind: {dn: a, password_file: /p, principal: p@X}`, `3:78: directories[0].bind: expected dn and password_file, or keytab and principal, got some of both`},
	{`name: a, urls: ["ldaps://:636"], bind: x`, `3:22: directories[0].urls[0]: expected a host after ldaps://, got "ldaps://:636"
3:45: directories[0].bind: expected keys with values (dn, keytab, password_file, principal), got "x"`},
}

func TestBadKeys(t *testing.T) {
	for _, c := range badKeys {
		testBad(t, c.in+"\n"+smallest, c.want)
	}
}

func TestBadFiles(t *testing.T) {
	for _, c := range badFiles {
		testBad(t, c.in, c.want)
	}
}

func TestBadDomains(t *testing.T) {
	_, directories, _ := strings.Cut(smallest, "enforce\n")
	for _, c := range badDomains {
		testBad(t, "domains:\n  "+c.in+"\n"+directories, c.want)
	}
}

func TestBadDirectories(t *testing.T) {
	for _, c := range badDirectoryKeys {
		testBad(t, smallest+"    "+c.in+"\n", c.want)
	}
	for _, c := range badDirectories {
		testBad(t, "domains: {example.com: enforce}\ndirectories:\n  - {"+c.in+"}\n", c.want)
	}
}

func testBad(t *testing.T, in, want string) {
	t.Helper()
	c, err := Parse("config.yaml", []byte(in))
	if err == nil {
		t.Errorf("Parse accepts\n%s\nwant %s", in, want)
		return
	}
	want = strings.ReplaceAll(want, "ALL", allKeys)
	if got := strings.ReplaceAll("\n"+err.Error(), "\nconfig.yaml:", "\n")[1:]; got != want {
		t.Errorf("Parse of\n%s\ngives  %s\nwant   %s", in, got, want)
	}
	if c != nil {
		t.Errorf("Parse gives a configuration with the error %v", err)
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

// TestSecretsStayOut: what somebody wrote into the wrong place is not repeated where
// it was meant to be a secret.
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
	for _, c := range badKeys {
		f.Add([]byte(c.in + "\n" + smallest))
	}
	for _, c := range badFiles {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("config.yaml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse(%q) = %v, %v", data, c, err)
		}
		if err == nil && (len(c.Domains) == 0 || len(c.Directories) == 0 || len(c.Listen) == 0) {
			t.Fatalf("Parse(%q) accepts a file without the necessary", data)
		}
		if err != nil && strings.ContainsFunc(strings.ReplaceAll(err.Error(), "\n", ""), func(r rune) bool { return r < ' ' && r != '\t' }) {
			t.Fatalf("Parse(%q): control characters in %q", data, err)
		}
	})
}
