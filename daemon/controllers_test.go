package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rcpt-milter/config"
	"rcpt-milter/directory"
)

// TestDefaultAddressAttributes checks that config and package directory have the same default.
func TestDefaultAddressAttributes(t *testing.T) {
	c, err := config.Parse("config.yaml", []byte(`
listen: inet:127.0.0.1:8890
domains: {corp.example: enforce}
directories:
  - name: corp
    urls: [ldaps://dc1.corp.example]
    bind: {dn: svc, password_file: /etc/rcpt-milter/password}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Directories[0].AddressAttributes, directory.DefaultAddressAttributes(); !slices.Equal(got, want) {
		t.Errorf("the default of address_attributes is %q, want %q", got, want)
	}
}

// TestKeytabAsSecret checks that a changed keytab is detected like a changed password.
func TestKeytabAsSecret(t *testing.T) {
	keytab := filepath.Join(t.TempDir(), "svc.keytab")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(keytab, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\x05\x02")
	secret := secretDigest(config.Bind{Keytab: keytab})
	before := secret()
	write("\x05\x02\x00")
	if secret() == before {
		t.Error("another keytab is the same secret")
	}
	c := controllerConfig(config.Directory{Bind: config.Bind{Keytab: keytab, Principal: "p@X"}}, "ldaps://dc1")
	if c.Password != nil || c.Keytab != keytab || c.Principal != "p@X" {
		t.Errorf("%+v", c)
	}
}

func TestControllers(t *testing.T) {
	listed, discover := controllers(config.Directory{URLs: []string{"ldaps://dc1.corp.example:636",
		"ldap://[2001:db8::1]:389"}})
	if discover != nil || len(listed) != 2 || listed[0].Host != "dc1.corp.example" ||
		listed[1].Host != "2001:db8::1" || listed[1].Name != "ldap://[2001:db8::1]:389" {
		t.Errorf("listed: %+v, discover %t", listed, discover != nil)
	}
	listed, discover = controllers(config.Directory{Discover: "corp.invalid"})
	if listed != nil || discover == nil {
		t.Fatalf("discovered: %+v, discover %t", listed, discover != nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := discover(ctx); err == nil || len(got) != 0 {
		t.Errorf("discover after its context ended: %v, %v", got, err)
	}
}
