package directory

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

func TestDialBothWays(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 3)
	for _, startTLS := range []bool{false, true} {
		c, s := connect(t, d, adsim.ServerConfig{}, nil)
		if startTLS {
			config := configFor(t, s)
			config.URL = s.StartTLSURL()
			c = must[*Conn](t)(Dial(t.Context(), config))
			defer c.Close()
		}
		all, err := readAll(t.Context(), c, 0)
		if err != nil || len(owners(all)) != 3 {
			t.Errorf("StartTLS %v: %d owners, %v", startTLS, len(owners(all)), err)
		}
		if st := s.Stats(); st.ClearBinds != 0 || (st.StartTLS == 1) != startTLS {
			t.Errorf("StartTLS %v: %+v", startTLS, st)
		}
	}
}

func TestTLSFailures(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	s := adsim.StartTest(t, d, adsim.ServerConfig{})
	for _, tc := range []struct {
		name  string
		cert  adsim.Certificate
		words string
	}{
		{"expired", adsim.Expired, "has expired"},
		{"from tomorrow", adsim.NotYetValid, "clock of this machine"},
		{"another authority", adsim.OtherCA, "tls.ca_file"},
		{"another name", adsim.WrongName, "(elsewhere.example) in the URL or as tls.server_name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.SetCertificate(tc.cert)
			for _, url := range []string{s.URL(), s.StartTLSURL()} {
				config := configFor(t, s)
				config.URL = url
				_, err := Dial(t.Context(), config)
				wantError(t, tc.name+" at "+url, err, ErrTLS, tc.words)
			}
		})
	}
	if st := s.Stats(); st.Binds+st.FailedBinds+st.ClearBinds != 0 {
		t.Errorf("a bind was sent over a connection that is not safe: %+v", st)
	}
	config := configFor(t, s) // the name may be given beside the URL
	config.ServerName = "elsewhere.example"
	must[*Conn](t)(Dial(t.Context(), config)).Close()

	s.SetCertificate(adsim.Good)
	config = configFor(t, s)
	config.CAFile = ""
	_, err := Dial(t.Context(), config)
	wantError(t, "system roots", err, ErrTLS, "tls.ca_file")
	config.CAFile = filepath.Join(t.TempDir(), "missing.pem")
	_, err = Dial(t.Context(), config)
	wantError(t, "no CA file", err, ErrConfig, "missing.pem")
	ok(t, os.WriteFile(config.CAFile, []byte("not PEM"), 0o600))
	_, err = Dial(t.Context(), config)
	wantError(t, "bad CA file", err, ErrConfig, "no certificate")

	config = configFor(t, s)
	config.URL = strings.Replace(s.StartTLSURL(), "ldap:", "ldaps:", 1)
	config.DialTimeout = 200 * time.Millisecond // the server waits for LDAP, we for TLS
	if _, err = Dial(t.Context(), config); err == nil {
		t.Error("LDAPS on a port for LDAP worked")
	}
}

func TestStartTLSIsMandatory(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	s := adsim.StartTest(t, d, adsim.ServerConfig{})
	config := configFor(t, s)
	config.URL = s.StartTLSURL()
	s.SetFaults(adsim.Faults{RefuseStartTLS: true})
	_, err := Dial(t.Context(), config)
	wantError(t, "refused", err, ErrTLS, "rejects StartTLS (LDAP 52")
	// An answer to a bind that an attacker sends in clear must not count.
	s.SetFaults(adsim.Faults{InjectStartTLS: []byte{0x30, 0x0c, 0x02, 0x01, 0x01, 0x61, 0x07, 0x0a, 0x01, 0x00, 0x04,
		0x00, 0x04, 0x00}})
	if c, err := Dial(t.Context(), config); !errors.Is(err, ErrTLS) {
		t.Errorf("injected bytes: %v, %v", c, err)
	}
	if st := s.Stats(); st.Binds+st.FailedBinds != 0 {
		t.Errorf("a bind was sent: %+v", st)
	}
}

func TestBindFailures(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	s := adsim.StartTest(t, d, adsim.ServerConfig{})
	good := configFor(t, s)
	for code, c := range bindCodes {
		t.Run(code, func(t *testing.T) {
			s.SetFaults(adsim.Faults{BindSubCode: code})
			_, err := Dial(t.Context(), good)
			kind := ErrRefused // the next controller may accept the bind
			if c.account {
				kind = ErrCredentials
			}
			wantError(t, code, err, kind, c.text)
			if errors.Is(err, ErrCredentials) != c.account || errors.Is(err, ErrForgeable) {
				t.Errorf("%s: %v", code, err)
			}
		})
	}
	s.SetFaults(adsim.Faults{BindSubCode: "8009"})
	_, err := Dial(t.Context(), good)
	wantError(t, "unknown sub-code", err, ErrCredentials, "data 8009")
	s.SetFaults(adsim.Faults{BindResult: 51})
	_, err = Dial(t.Context(), good)
	wantError(t, "busy", err, ErrRefused, "busy")
	s.SetFaults(adsim.Faults{})

	const secret = "not the p4ssword"
	for name, tc := range map[string]struct {
		change func(*Config)
		kind   error
		words  string
	}{
		"wrong password": {func(c *Config) { c.Password = func() ([]byte, error) { return []byte(secret), nil } },
			ErrCredentials, "data 52e"},
		"wrong name": {func(c *Config) { c.BindDN = "nobody@corp.example" }, ErrCredentials, "data 525"},
		"empty password": {func(c *Config) { c.Password = func() ([]byte, error) { return nil, nil } }, ErrConfig,
			"empty"},
		"no file": {func(c *Config) { c.Password = PasswordFile("/nonexistent/password") }, ErrConfig,
			"/nonexistent/password"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			tc.change(&config)
			_, err := Dial(t.Context(), config)
			wantError(t, name, err, tc.kind, tc.words)
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error tells the password: %v", name, err)
			}
		})
	}
	if st := s.Stats(); st.NoPassword+st.ClearBinds != 0 {
		t.Errorf("a bind without password or without TLS was sent: %+v", st)
	}
}

// TestNoBindWithABadPasswordFile: not even a connection is made, and a connection that exists
// stays.
func TestNoBindWithABadPasswordFile(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	s := adsim.StartTest(t, d, adsim.ServerConfig{})
	path := filepath.Join(t.TempDir(), "password")
	config := configFor(t, s)
	config.Password = PasswordFile(path)
	ok(t, os.WriteFile(path, []byte("\ufeff"+s.Password()+"\r\n"), 0o600)) // with a byte order mark
	c := must[*Conn](t)(Dial(t.Context(), config))
	defer c.Close()
	before := s.Stats()
	for name, content := range map[string]string{
		"empty": "", "several lines": s.Password() + "\n# of svc-mail\n", "UTF-16": "\xff\xfep\x00",
		"UTF-16 without mark": "p\x00w\x00",
		"Latin-1":             "geh\xe4im", "control characters": "\x1b[A", "too long": strings.Repeat("x", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			ok(t, os.WriteFile(path, []byte(content), 0o600))
			_, err := Dial(t.Context(), config)
			wantError(t, name, err, ErrSecret, "bind.password_file: the password file "+path+" ")
			wantError(t, name, err, ErrConfig, "")
		})
	}
	ok(t, os.Remove(path))
	_, err := Dial(t.Context(), config)
	wantError(t, "missing", err, ErrSecret, "does not exist")
	if after := s.Stats(); after.Connections != before.Connections || after.Binds != before.Binds ||
		after.FailedBinds != 0 {
		t.Errorf("connections and binds: %+v, before %+v", after, before)
	}
	must[Root](t)(c.Root(t.Context()))
}

func TestPasswordIsReadAtEachBind(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	s := adsim.StartTest(t, d, adsim.ServerConfig{})
	path := filepath.Join(t.TempDir(), "password")
	config := configFor(t, s)
	config.Password = PasswordFile(path)
	for _, password := range []string{"first", "second"} {
		s.SetPassword(password)
		ok(t, os.WriteFile(path, []byte(password+"\n"), 0o600))
		must[*Conn](t)(Dial(t.Context(), config)).Close()
	}
}

func TestUnreachable(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	s := adsim.StartTest(t, d, adsim.ServerConfig{})
	config := configFor(t, s)
	s.Down()
	_, err := Dial(t.Context(), config)
	wantError(t, "no listener", err, ErrUnreachable, "connection refused")
	config.Dialer = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "dc9.corp.example", IsNotFound: true}
	}
	_, err = Dial(t.Context(), config)
	wantError(t, "no such name", err, ErrUnreachable, "does not resolve")
	config.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	config.DialTimeout = 10 * time.Millisecond
	_, err = Dial(t.Context(), config)
	wantError(t, "packets lost", err, ErrUnreachable, "firewall")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Dial(ctx, config)
	wantError(t, "cancelled", err, context.Canceled, "canceled")
}

func TestConnectionsAreLostAndMadeAgain(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 3)
	c, s := connect(t, d, adsim.ServerConfig{}, nil)
	must[Root](t)(c.Root(t.Context()))
	s.Down()
	_, err := c.Root(t.Context())
	wantError(t, "cut while idle", err, ErrUnreachable, "lost")
	ok(t, s.Up())
	_, err = c.Root(t.Context())
	wantError(t, "the old connection", err, ErrUnreachable, "lost")
	c = must[*Conn](t)(Dial(t.Context(), configFor(t, s)))
	defer c.Close()
	if all, err := readAll(t.Context(), c, 0); err != nil || len(owners(all)) != 3 {
		t.Errorf("after reconnecting: %d owners, %v", len(owners(all)), err)
	}
}

func TestGlobalCatalogIsKnownByItsPort(t *testing.T) {
	c := connectCatalog(t, adsim.NewDirectory(adsim.DirectoryConfig{}))
	if root := must[Root](t)(c.Root(t.Context())); !root.GlobalCatalog {
		t.Errorf("Root() = %+v", root)
	}
}

// connectCatalog connects by a port of the Global Catalog.
func connectCatalog(t *testing.T, d *adsim.Directory) *Conn {
	t.Helper()
	c, _ := connect(t, d, adsim.ServerConfig{}, func(config *Config) {
		at, _ := parseURL(config.URL)
		config.URL, config.ServerName = "ldaps://dc1.corp.example:3269", "dc1.corp.example"
		config.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "dc1.corp.example:3269" {
				t.Errorf("dial %s", address)
			}
			return new(net.Dialer).DialContext(ctx, network, at.String())
		}
	})
	return c
}

// TestGlobalCatalogWithoutAddresses: where the schema keeps an address attribute out of
// the Global Catalog, everybody would look as if without addresses.
func TestGlobalCatalogWithoutAddresses(t *testing.T) {
	for _, c := range []struct {
		name string
		in   map[string]string // isMemberOfPartialAttributeSet
		want error
	}{
		{"both are there", map[string]string{"proxyAddresses": "TRUE", "mail": "TRUE"}, nil},
		{"one is not", map[string]string{"proxyAddresses": "FALSE", "mail": "TRUE"}, ErrProtocol},
		{"nothing is said of one", map[string]string{"proxyAddresses": "", "mail": "TRUE"}, ErrProtocol},
		{"the schema does not know them", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := adsim.NewDirectory(adsim.DirectoryConfig{})
			for name, flag := range c.in {
				attrs := adsim.Attrs{"lDAPDisplayName": {name}}
				if flag != "" {
					attrs["isMemberOfPartialAttributeSet"] = []string{flag}
				}
				must[adsim.GUID](t)(d.Add(adsim.AttributeSchema, "CN="+name+",CN=Schema,CN=Configuration,"+base, attrs))
			}
			conn := connectCatalog(t, d)
			root := must[Root](t)(conn.Root(t.Context()))
			for _, since := range []uint64{0, root.HighestCommittedUSN} {
				if err := conn.Read(t.Context(), since, func([]Object) error { return nil }); !errors.Is(err, c.want) {
					t.Errorf("%s: Read since %d: %v, want %v", c.name, since, err, c.want)
				}
			}
		})
	}
}
