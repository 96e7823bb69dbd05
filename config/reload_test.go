package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const reloadable = `
listen: unix:/run/a.sock
domains: {example.com: enforce}
directories:
  - {name: corp, urls: [ldaps://dc1.corp.example], bind: {dn: x, password_file: /p}}
  - {name: lab, urls: [ldaps://dc1.lab.example], bind: {dn: x, password_file: /p}}
`

func mustRead(t *testing.T, edits ...string) *Config {
	t.Helper()
	c, err := Parse("c.yaml", []byte(strings.NewReplacer(edits...).Replace(reloadable)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeepingAndChanges(t *testing.T) {
	for _, c := range []struct {
		edits            []string
		changed, restart []string
	}{
		{nil, nil, nil},
		{[]string{"enforce", "report"}, []string{"domains"}, nil},
		{[]string{"listen: unix:/run/a.sock", "listen: [unix:/run/b.sock, unix:/run/a.sock]"}, nil, []string{"listen"}},
		{[]string{"listen:", "store: {dir: /s, min_free: 1GiB, rebuild: never, encryption_key_file: /k}\n" +
			"control: unix:/c\nmetrics: \"\"\nsocket: {group: x, mode: \"0666\"}\nlisten_allow: [10.0.0.0/8]\nlisten:"},
			nil, []string{"listen_allow", "socket.group", "socket.mode", "control", "metrics", "store.dir",
				"store.encryption_key_file", "store.min_free", "store.rebuild"}},
		{[]string{"listen:", "listen_socketmap: unix:/m\nexport: {file: /l}\nlisten:"}, []string{"export"},
			[]string{"listen_socketmap"}},
		{[]string{"listen:", "page: {listen: \"unix:/p\", serve: never, hosts: [a.example]}\nlisten:"},
			[]string{"page"}, []string{"page.listen"}},
		{[]string{"directories:", "removal_grace: 2h\njournal: {keep: 1d}\nlog: {level: warn}\ndirectories:",
			"/run/a.sock", "/run/b.sock"},
			[]string{"removal_grace", "journal", "log"}, []string{"listen"}},
		{[]string{"name: corp,", "name: corp, poll: 1s,"}, []string{"directories[corp]"}, nil},
		{[]string{"name: lab,", "name: hub,"}, []string{"directories[hub]", "directories[lab]"}, nil},
		{[]string{"name: lab,", "name: corp,", "name: corp,", "name: lab,", "lab.example", "corp.example",
			"corp.example", "lab.example"}, []string{"directories"}, nil},
	} {
		running, read := mustRead(t), mustRead(t, c.edits...)
		next, restart := read.WithRestartKeysOf(running)
		if changed := next.Changes(running); !slices.Equal(changed, c.changed) || !slices.Equal(restart, c.restart) {
			t.Errorf("%q: changed %q, restart %q, want %q and %q", c.edits, changed, restart, c.changed, c.restart)
		}
		for _, k := range restartKeys {
			if !reflect.DeepEqual(k.of(next), k.of(running)) {
				t.Errorf("%q: %s is half applied", c.edits, k.key)
			}
		}
		same := reflect.DeepEqual(read.Listen, running.Listen)
		if len(c.restart) > 0 && same == slices.Contains(c.restart, "listen") {
			t.Errorf("%q: what was read has changed", c.edits)
		}
	}
}

// TestKeyOf: every field is reported by its name in the file.
func TestKeyOf(t *testing.T) {
	fields := reflect.TypeFor[Config]()
	for i := range fields.NumField() {
		if name := fields.Field(i).Name; fields.Field(i).IsExported() {
			if _, err := Parse("c.yaml", []byte(keyOf(name)+": {}\n")); err == nil ||
				strings.Contains(err.Error(), "unknown key") {
				t.Errorf("keyOf(%q) = %q: %v", name, keyOf(name), err)
			}
		}
	}
}

func TestControlSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if got, ok := ControlSocket(path); ok {
		t.Errorf("without a file: %v", got)
	}
	for text, want := range map[string]string{
		"control: unix:/c.sock\n":                          "unix:/c.sock",
		"nonsense: 1\ncontrol: unix:/c.sock\nlisten: 5\n":  "unix:/c.sock",
		"domains: [\ncontrol: unix:/c.sock\nlisten: unix:": "unix:/c.sock",
		"domains: [\ncontrol: [":                           "unix:/run/rcpt-milter/control.sock",
		"domains: {}":                                      "unix:/run/rcpt-milter/control.sock",
		"control: inet:1":                                  "unix:/run/rcpt-milter/control.sock",
		"":                                                 "unix:/run/rcpt-milter/control.sock",
		"\x00":                                             "unix:/run/rcpt-milter/control.sock",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := ControlSocket(path); !ok || got.String() != want {
			t.Errorf("ControlSocket of %q = %v, %v, want %s", text, got, ok, want)
		}
	}
}
