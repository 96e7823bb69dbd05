package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

const (
	base            = "DC=corp,DC=example"
	configurationNC = "CN=Configuration," + base
	day             = 24 * time.Hour
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// before returns a time of the control protocol before noon.
func before(d time.Duration) control.Time { return control.Time{Time: noon.Add(-d)} }

// newTestDirectory starts a simulated domain controller, and returns the configuration that
// reads it.
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

// newTestLog returns a logger, and what it has written, without times.
func newTestLog() (*slog.Logger, *bytes.Buffer) {
	var out bytes.Buffer
	return slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})), &out
}
