package config

import (
	"errors"
	"testing"
)

// TestSuspicious: values that are valid and have a consequence that few want.
func TestSuspicious(t *testing.T) {
	const one = "[ldaps://dc1.corp.example]"
	g := openGolden(t, "warnings-directories.txt")
	for _, c := range []struct {
		urls, more string
		warns      bool
	}{
		{"[ldaps://dc1.corp.example, ldaps://dc2.corp.example]", "", false},
		{"[ldaps://dc1.corp.example:3269, ldap://dc2.corp.example:3268]", "", false},
		{one, "    poll: 4m\n", false},
		{one, "    poll: 5m\n", true},
		{one, "    poll: 1h\n", true},
		{one, "    poll: 1h\nlate_after: 2h\nstale_after: 4h\n", false},
		{one, "late_after: 1s\n", true},
		{`[ldaps://dc1.corp.example, "ldaps://dc2.corp.example:3269"]`, "", true},
		{`["ldap://dc1.corp.example:3268", ldaps://dc2.corp.example]`, "", true},
	} {
		g.run(t, c.urls+"\n"+c.more, func(t *testing.T) string {
			got, err := Parse("config.yaml", []byte("domains:\n  example.com: enforce\ndirectories:\n"+
				"  - name: corp\n    urls: "+c.urls+
				"\n    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n"+c.more))
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
