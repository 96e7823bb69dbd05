package config

import (
	"errors"
	"strings"
	"testing"
)

// TestFleetRules: what publish, stream and nats require of each other, and a host without
// directories.
func TestFleetRules(t *testing.T) {
	const (
		domains = "domains: {example.com: enforce}\n"
		corp    = "directories:\n  - {name: corp, urls: [ldaps://dc1.corp.example], bind: {dn: a, password_file: /p}}\n"
		edge    = "directories:\n  - name: corp\n    stream: {urls: [\"tls://mx1.dmz.example\"]}\n"
		nats    = "nats: {}\n"
	)
	for _, c := range []struct {
		name, in string
		want     string // a part of the error; empty: valid
	}{
		{"a hub with its own engine", domains + corp + nats + "publish: {}\n", ""},
		{"a hub without an engine", domains + corp + "publish: {}\n", `key "stream" is missing in publish`},
		{"a hub with an empty stream", domains + corp + "publish: {stream: {}}\n",
			`key "urls" is missing in publish.stream`},
		{"a hub of another engine", domains + corp + "publish: {stream: {urls: [\"tls://mx1.dmz.example\"]}}\n", ""},
		{"a hub of a directory that is not there", domains + corp + nats + "publish: {directories: [lab]}\n",
			`publish.directories[0]: "lab" is not a directory with controllers in this file`},
		{"a hub of a followed directory", domains + edge + nats + "publish: {directories: [corp]}\n",
			`publish.directories[0]: "corp" is not a directory with controllers in this file`},
		{"a hub without directories", "domains: {example.com: pass}\ndirectories: []\n" + nats + "publish: {}\n",
			"publish: there is no directory to publish"},

		{"an edge", domains + edge, ""},
		{"an edge of its own engine", domains + nats + "directories:\n  - {name: corp, stream: {}}\n", ""},
		{"an edge without an engine", domains + "directories:\n  - {name: corp, stream: {}}\n",
			`key "urls" is missing in directories[0].stream`},
		{"an edge with a certificate", domains + strings.Replace(edge, `"]}`,
			`"], tls: {cert_file: /c, key_file: /k}}`, 1), ""},
		{"an edge with half a certificate", domains + strings.Replace(edge, `"]}`, `"], tls: {cert_file: /c}}`, 1),
			"directories[0].stream.tls: cert_file and key_file require each other"},
		{"an edge with a controller", domains + edge + "    urls: [ldaps://dc1.corp.example]\n",
			"directories[0].urls: urls and stream are mutually exclusive"},
		{"an edge with an account", domains + edge + "    bind: {dn: a, password_file: /p}\n",
			"directories[0].bind: bind and stream are mutually exclusive"},
		{"an edge with rules of the hub", domains + edge + "    internal_only: refuse\n",
			"directories[0].internal_only: internal_only and stream are mutually exclusive"},
		{"an edge with its own guard", domains + edge + "    poll: 10s\n    removal_guard: {max: 9}\n", ""},
		{"an edge without TLS", domains + strings.Replace(edge, "tls://", "nats://", 1), "has no TLS"},
		{"an edge on loopback without TLS", domains + strings.Replace(edge, "tls://mx1.dmz.example", "nats://127.0.0.1",
			1), ""},
		{"a password in the URL", domains + strings.Replace(edge, "mx1", "u:secret@mx1", 1), "use credentials_file"},

		{"an engine with its own certificate",
			domains + corp + "nats: {tls: {cert_file: /c, key_file: /k, ca_file: /a}}\n", ""},
		{"an engine with half a certificate", domains + corp + "nats: {tls: {key_file: /k, ca_file: /a}}\n",
			"nats.tls: cert_file and key_file require each other"},
		{"an engine without the authority", domains + corp + "nats: {tls: {cert_file: /c, key_file: /k}}\n",
			"nats.tls: cert_file requires ca_file"},
		{"monitoring on loopback", domains + corp + "nats: {monitor: \"inet:127.0.0.1:8222\"}\n", ""},
		{"monitoring for all", domains + corp + "nats: {monitor: \"inet:0.0.0.0:8222\"}\n",
			"nats.monitor: inet:0.0.0.0:8222 is reachable from other hosts"},
		{"a cluster", domains + corp + "nats: {cluster: {node: n1, routes: [\"tls://n1\", \"tls://n2\", " +
			"\"tls://n3\"]}}\n", ""},
		{"a cluster of one", domains + corp + "nats: {cluster: {node: n1, routes: [\"tls://n1\"]}}\n",
			"nats.cluster.routes: expected all nodes, got one"},
		{"a cluster without a name", domains + corp + "nats: {cluster: {routes: [\"tls://n1\", \"tls://n2\"]}}\n",
			`key "node" is missing in nats.cluster`},

		{"a file-fed host", domains + "directories: []\naccept_files: [/t]\naccept_files_max_age: 1d\n", ""},
		{"no recipients at all", domains + "directories: []\n", "directories: expected at least one directory"},
		{"none but in accept", domains + "directories: []\naccept: [a@example.com]\n",
			"directories: expected at least one directory"},
		{"no directories key", domains + "accept_files: [/t]\n", `key "directories" is missing`},
		{"an engine that judges nothing", "domains: {example.com: pass}\ndirectories: []\n" + nats, ""},
		{"an engine that judges without recipients", domains + "directories: []\n" + nats,
			`domains: neither a directory nor accept_files has the recipients of "example.com"`},
		{"an engine that reports without recipients", "domains: {.example.com: report}\ndirectories: []\n" + nats,
			`domains: neither a directory nor accept_files has the recipients of ".example.com"`},
		{"an engine with files", domains + "directories: []\naccept_files: [/t]\n" + nats, ""},
		{"a wrong file is the only error", domains + "directories: []\naccept_files: [t]\n",
			"accept_files[0]: expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("config.yaml", []byte(c.in))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%s\nis rejected: %v", c.in, err)
			case c.want != "" &&
				(err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("%s\nerror %v\nwant one with %q", c.in, err, c.want)
			}
		})
	}
}

// TestAcceptFilesMaxAge: the values of the key, and a warning where it has no effect.
func TestAcceptFilesMaxAge(t *testing.T) {
	const corp = "domains: {example.com: enforce}\n" +
		"directories:\n  - {name: corp, urls: [ldaps://dc1.corp.example], bind: {dn: a, password_file: /p}}\n"
	for _, c := range []struct{ name, in, warning, err string }{
		{"off", "accept_files_max_age: 0\n", "", ""},
		{"off as a duration", "accept_files_max_age: 0s\n", "", ""},
		{"with files and directories", "accept_files: [/t]\naccept_files_max_age: 36h\n", "", ""},
		{"without files", "accept_files_max_age: 36h\n", "accept_files_max_age: has no effect without accept_files",
			""},
		{"negative", "accept_files: [/t]\naccept_files_max_age: -1h\n", "",
			"accept_files_max_age: expected a duration"},
		{"without a unit", "accept_files: [/t]\naccept_files_max_age: 3600\n", "", "without a unit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("config.yaml", []byte(corp+c.in))
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err != nil {
				return
			}
			warning := errors.Join(got.Warnings()...)
			if (warning != nil) != (c.warning != "") ||
				warning != nil && !strings.Contains(warning.Error(), c.warning) {
				t.Errorf("warning %v, want %q", warning, c.warning)
			}
		})
	}
}
