package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestSchemeThatDoesNotFitThePort: it is a warning with its place, because something in front
// of the controller may translate.
func TestSchemeThatDoesNotFitThePort(t *testing.T) {
	for url, want := range map[string]string{
		"ldaps://dc1": "", "ldap://dc1": "", "ldaps://dc1:636": "", "ldaps://dc1:3269": "", "ldap://dc1:389": "",
		"ldap://dc1:3268":   "",
		"ldaps://dc1:10389": "", "ldap://dc1:10636": "",
		"ldaps://dc1:389": "domain controllers speak LDAP without TLS on port 389; write ldap:// for StartTLS " +
			"there, or leave out the port",
		"ldaps://dc1:3268": "domain controllers speak LDAP without TLS on port 3268; write ldap:// for StartTLS " +
			"there, or leave out the port",
		"ldap://dc1:636": "domain controllers speak TLS from the beginning on port 636; write ldaps:// " +
			"instead of ldap://",
		"LDAP://[2001:db8::1]:3269": "domain controllers speak TLS from the beginning on port 3269; write ldaps:// " +
			"instead of ldap://",
	} {
		first := "ldaps://dc0"
		if strings.HasSuffix(url, ":3268") || strings.HasSuffix(url, ":3269") {
			first = "ldaps://dc0:3269" // a Global Catalog too
		}
		column := len("    urls: [\"\", ") + len(first) + 1
		c, err := Parse("config.yaml", []byte(fmt.Sprintf("domains: {example.com: enforce}\ndirectories:\n  - name: corp\n"+
			"    urls: [%q, %q]\n    bind: {dn: a, password_file: /p}\n", first, url)))
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := ""
		if w := errors.Join(c.Warnings()...); w != nil {
			got = w.Error()
		}
		if want != "" {
			want = fmt.Sprintf("config.yaml:4:%d: directories[0].urls[1]: %s", column, want)
		}
		if got != want {
			t.Errorf("%s: warning %q, want %q", url, got, want)
		}
	}
}
