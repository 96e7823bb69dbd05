package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestPorts: a scheme that does not match the port is a warning, because a proxy in front of
// the controller may need it.
func TestPorts(t *testing.T) {
	g := openGolden(t, "warnings-ports.txt")
	for _, c := range []struct {
		url   string
		warns bool
	}{
		{"ldaps://dc1", false}, {"ldap://dc1", false},
		{"ldaps://dc1:636", false}, {"ldaps://dc1:3269", false},
		{"ldap://dc1:389", false}, {"ldap://dc1:3268", false},
		{"ldaps://dc1:10389", false}, {"ldap://dc1:10636", false},
		{"ldaps://dc1:389", true}, {"ldaps://dc1:3268", true},
		{"ldap://dc1:636", true}, {"LDAP://[2001:db8::1]:3269", true},
	} {
		g.run(t, c.url, func(t *testing.T) string {
			first := "ldaps://dc0"
			if strings.HasSuffix(c.url, ":3268") || strings.HasSuffix(c.url, ":3269") {
				first = "ldaps://dc0:3269" // a Global Catalog too
			}
			got, err := Parse("config.yaml", []byte(fmt.Sprintf("domains: {example.com: enforce}\ndirectories:\n"+
				"  - name: corp\n    urls: [%q, %q]\n    bind: {dn: a, password_file: /p}\n", first, c.url)))
			if err != nil || (len(got.Warnings()) > 0) != c.warns {
				t.Fatalf("Parse: %v, expected a warning: %v", err, c.warns)
			}
			if !c.warns {
				return ""
			}
			return errors.Join(got.Warnings()...).Error()
		})
	}
}
