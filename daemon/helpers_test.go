package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

const (
	base            = "DC=corp,DC=example"
	configurationNC = "CN=Configuration," + base
	day             = 24 * time.Hour
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// before returns the control.Time that is d before noon.
func before(d time.Duration) control.Time { return control.Time{Time: noon.Add(-d)} }

// newTestDirectory starts a simulated domain controller. It returns the configuration of a directory that reads
// it.
func newTestDirectory(t *testing.T) (*adsim.Directory, *adsim.Server, config.Directory) {
	t.Helper()
	ad := adsim.NewDirectory(adsim.DirectoryConfig{})
	server := adsim.StartTest(t, ad, adsim.ServerConfig{})
	dir := t.TempDir()
	ca, err := server.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(server.Password()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return ad, server, config.Directory{Name: "corp", URLs: []string{server.URL()}, TLS: config.TLS{CAFile: ca},
		Bind: config.Bind{DN: server.BindDN(), PasswordFile: password},
		Poll: time.Second, Full: time.Hour, AddressAttributes: []string{"proxyAddresses", "mail"}}
}

// newTestLog returns a logger and its output. The output has no times.
func newTestLog() (*slog.Logger, *bytes.Buffer) {
	var out bytes.Buffer
	return slog.New(slog.NewTextHandler(&out,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})), &out
}

// newTestStore opens an empty store.
func newTestStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// addAddresses adds one object per address to a directory. A leading "!" makes the address internal-only.
func addAddresses(t *testing.T, s *store.Store, directory string, addresses ...string) {
	t.Helper()
	pass, err := s.Begin(directory, store.Incremental, store.Origin{Controller: "dc1", Started: noon})
	if err != nil {
		t.Fatal(err)
	}
	var objects []store.Object
	for i, text := range addresses {
		text, restricted := strings.CutPrefix(text, "!")
		a, err := address.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		o := store.Object{Class: "user", DN: "CN=" + text + "," + base,
			Addresses: []store.Owned{{Address: a, Attribute: "mail", InternalOnly: restricted}}}
		o.GUID[0] = byte(i + 1)
		objects = append(objects, o)
	}
	if _, err := pass.Apply(objects); err != nil {
		t.Fatal(err)
	}
	if _, err := pass.Commit(store.Outcome{Ended: noon}); err != nil {
		t.Fatal(err)
	}
}

// parsed returns the canonical address of a text.
func parsed(t *testing.T, text string) address.Address {
	t.Helper()
	a, err := address.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
