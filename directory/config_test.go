package directory

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, tc := range []struct {
		url, want string
		startTLS  bool
	}{
		{"ldaps://dc1.corp.example", "dc1.corp.example:636", false},
		{"ldap://dc1.corp.example/", "dc1.corp.example:389", true},
		{"LDAPS://[2001:db8::1]:3269", "[2001:db8::1]:3269", false},
		{"dc1.corp.example", "", false},
		{"ldaps://", "", false},
		{"https://dc1.corp.example", "", false},
		{"ldapi:///var/run/ldapi", "", false},
		{"ldaps://user:secret@dc1", "", false},
		{"ldaps://dc1/DC=corp,DC=example", "", false},
		{"ldaps://dc1:port", "", false},
	} {
		t.Run(tc.url, func(t *testing.T) {
			at, err := parseURL(tc.url)
			if tc.want == "" {
				wantError(t, tc.url, err, ErrConfig, "domain controller")
				return
			}
			if err != nil || at.String() != tc.want || at.startTLS != tc.startTLS {
				t.Errorf("parseURL(%q) = %q StartTLS %v, %v, want %q %v", tc.url, at, at.startTLS, err, tc.want,
					tc.startTLS)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	password := func() ([]byte, error) { return []byte("x"), nil }
	good := Config{URL: "ldaps://dc1", BindDN: "svc", Password: password}
	if c, _, err := good.withDefaults(); err != nil || c.PageSize != DefaultPageSize || c.ServerName != "dc1" ||
		len(c.AddressAttributes) != 2 {
		t.Errorf("complete() = %+v, %v", c, err)
	}
	for name, change := range map[string]func(*Config){
		"no name":       func(c *Config) { c.BindDN = "" },
		"no password":   func(c *Config) { c.Password = nil },
		"no URL":        func(c *Config) { c.URL = "" },
		"bad attribute": func(c *Config) { c.AddressAttributes = []string{"mail)(objectClass=*"} },
		"with options":  func(c *Config) { c.AddressAttributes = []string{"mail;range=0-1"} },
		"negative":      func(c *Config) { c.Timeout = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			change(&bad)
			_, err := Dial(t.Context(), bad)
			wantError(t, name, err, ErrConfig, "")
		})
	}
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct{ content, want string }{
		{"secret", "secret"},
		{"secret\n", "secret"},
		{"secret\r\n", "secret"},
		{"secret\n\n", "secret"},
		{"\ufeffsecret\r\n", "secret"},
		{" päss wörd \n", " päss wörd "},
	} {
		t.Run(fmt.Sprintf("%q", tc.content), func(t *testing.T) {
			path := filepath.Join(dir, "password")
			ok(t, os.WriteFile(path, []byte(tc.content), 0o600))
			if got, err := PasswordFile(path)(); err != nil || string(got) != tc.want {
				t.Errorf("PasswordFile of %q = %q, %v, want %q", tc.content, got, err, tc.want)
			}
		})
	}
	for name, content := range map[string]string{"empty": "", "newline": "\n",
		"huge":   strings.Repeat("x", maxPassword+1),
		"UTF-16": "\xff\xfex\x00x\x00x\x00", "several lines": "xxx\nxxx\n"} {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := PasswordFile(path)()
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := PasswordFile(filepath.Join(dir, "missing"))(); err == nil ||
		!strings.Contains(err.Error(), "missing") {
		t.Errorf("missing file: %v", err)
	}
}
