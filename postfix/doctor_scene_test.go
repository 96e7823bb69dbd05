package postfix

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

const (
	ownSocket = "/var/spool/postfix/rcpt-milter/milter.sock"
	mapSocket = "/var/spool/postfix/rcpt-milter/map.sock"
)

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

// smtpd is a listener that others do not have.
func smtpd(name, chroot string, overrides map[string]string) Service {
	if overrides == nil {
		overrides = map[string]string{}
	}
	return Service{Name: name, Type: "inet", Chroot: chroot, Processes: "-", Program: "smtpd", Overrides: overrides}
}
