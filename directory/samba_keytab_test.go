package directory

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/testenv"
)

// run runs a command at the controller.
func (c controller) run(t *testing.T, argv ...string) {
	t.Helper()
	out, err := c.harness.Exec(t.Context(), testenv.DC, argv...)
	if err != nil || out.Status != 0 {
		t.Fatalf("%q: %v, status %d\n%s%s", argv, err, out.Status, out.Stdout, out.Stderr)
	}
}

// published dials the ports of dc1.corp.example where the harness has published them.
func (c controller) published(ctx context.Context, network, address string) (net.Conn, error) {
	for port, number := range map[string]int{":88": 88, ":53": 53, "dc1.corp.example:636": 636} {
		if !strings.HasSuffix(address, port) {
			continue
		}
		at, err := c.harness.Address(ctx, testenv.DC, number)
		if err != nil {
			return nil, err
		}
		address = at
		break
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// kerberos is the configuration with the keytab of an account as it is now.
func (c controller) kerberos(t *testing.T, account string) Config {
	t.Helper()
	const there = "/tmp/test.keytab"
	c.run(t, "rm", "-f", there)
	c.run(t, "samba-tool", "domain", "exportkeytab", there, "--principal="+account)
	path := filepath.Join(t.TempDir(), "test.keytab")
	ok(t, os.WriteFile(path, []byte(must[string](t)(c.harness.ReadFile(t.Context(), testenv.DC, there))), 0o600))
	return c.withKeytab(path, account)
}

func (c controller) withKeytab(path, principal string) Config {
	config := c.config
	config.BindDN, config.Password = "", nil
	config.Keytab, config.Principal, config.Dialer = path, principal, c.published
	return config
}

func TestSambaKeytab(t *testing.T) {
	dc := samba(t)
	want, _, err := dc.admin.Recipients()
	ok(t, err)
	config := dc.kerberos(t, "svc-mail@CORP.EXAMPLE")
	for _, url := range []string{config.URL, dc.startTLS} {
		config.URL = url
		c := must[*Conn](t)(Dial(t.Context(), config))
		root := must[Root](t)(c.Root(t.Context()))
		if !root.DeletedVisible {
			t.Errorf("%s: bound as an account without the right to see deleted objects", url)
		}
		all, err := readAll(t.Context(), c, 0)
		if got := sambaAddresses(all); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %d addresses, %v, want %d", url, len(got), err, len(want))
		}
		ok(t, c.Close())
	}
	config.Principal = "SVC-Mail@corp.example"
	must[*Conn](t)(Dial(t.Context(), config)).Close()
}

func TestSambaKeytabRefusals(t *testing.T) {
	dc := samba(t)
	invented := filepath.Join(t.TempDir(), "invented.keytab")
	ok(t, os.WriteFile(invented, keytabOf(
		entry("nobody@CORP.EXAMPLE", 1, 0, 18, key256),
		entry("svc-mail@CORP.EXAMPLE", 9, 0, 18, key256),
		entry("svc-mail@OTHER.EXAMPLE", 1, 0, 18, key256),
	), 0o600))
	refused := func(what string, config Config, kind error, words string) {
		t.Helper()
		_, err := Dial(t.Context(), config)
		wantError(t, what, err, kind, words)
	}
	refused("unknown principal", dc.withKeytab(invented, "nobody@CORP.EXAMPLE"), ErrRefused,
		"has no account nobody@CORP.EXAMPLE")
	refused("another key", dc.withKeytab(invented, "svc-mail@CORP.EXAMPLE"), ErrCredentials,
		"(version 9) does not match")
	refused("another realm", dc.withKeytab(invented, "svc-mail@OTHER.EXAMPLE"), ErrRefused, "correct bind.principal")

	dc.run(t, "samba-tool", "user", "create", "dir-kerberos", "Passw0rd.One", "--userou=OU=Service")
	t.Cleanup(func() {
		dc.harness.Exec(context.WithoutCancel(t.Context()), testenv.DC, "samba-tool", "user", "delete", "dir-kerberos")
	})
	config := dc.kerberos(t, "dir-kerberos@CORP.EXAMPLE")
	must[*Conn](t)(Dial(t.Context(), config)).Close()
	dc.run(t, "samba-tool", "user", "setpassword", "dir-kerberos", "--newpassword=Passw0rd.Two")
	refused("key of an old password", config, ErrCredentials, "export the keytab again")
	config = dc.kerberos(t, "dir-kerberos@CORP.EXAMPLE")
	must[*Conn](t)(Dial(t.Context(), config)).Close()
	dc.run(t, "samba-tool", "user", "disable", "dir-kerberos")
	refused("disabled", config, ErrCredentials, "disabled")
	dc.run(t, "samba-tool", "user", "enable", "dir-kerberos")
	dc.run(t, "samba-tool", "user", "setpassword", "dir-kerberos", "--newpassword=Passw0rd.Three",
		"--must-change-at-next-login")
	refused("password must change", dc.kerberos(t, "dir-kerberos@CORP.EXAMPLE"), ErrCredentials, "expired")
}

// The names that DNS gives are enough to get there, and the certificate is for them.
func TestSambaDiscover(t *testing.T) {
	dc := samba(t)
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dc.published(ctx, "tcp", "dc1:53")
	}}
	for _, site := range []string{"", "Default-First-Site-Name", "Elsewhere"} {
		urls, err := Discover(t.Context(), resolver, "corp.example", site)
		if want := []string{"ldaps://dc1.corp.example:636"}; err != nil || !slices.Equal(urls, want) {
			t.Fatalf("Discover with site %q = %q, %v, want %q", site, urls, err, want)
		}
		c := dc.dial(t, func(c *Config) { c.URL, c.ServerName, c.Dialer = urls[0], "", dc.published })
		must[Root](t)(c.Root(t.Context()))
	}
	_, err := Discover(t.Context(), resolver, "other.example", "")
	if err == nil {
		t.Error("controllers of a domain that does not exist")
	}
}
