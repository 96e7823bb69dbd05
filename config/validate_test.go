package config

import (
	"errors"
	"testing"
)

// TestHardlyMeant: values that are valid and have a consequence that few want.
func TestHardlyMeant(t *testing.T) {
	for _, c := range []struct{ urls, more, want string }{
		{"[ldaps://dc1.corp.example, ldaps://dc2.corp.example]", "", ""},
		{"[ldaps://dc1.corp.example:3269, ldap://dc2.corp.example:3268]", "", ""},
		{"[ldaps://dc1.corp.example]", "    poll: 4m\n", ""},
		{"[ldaps://dc1.corp.example]", "    poll: 5m\n", `x.yaml:7:11: directories[0].poll: poll (5m) is not below late_after (5m), so status says late part of the time though all is well; set late_after above poll`},
		{"[ldaps://dc1.corp.example]", "    poll: 1h\n", `x.yaml:7:11: directories[0].poll: poll (1h) is not below stale_after (30m), so unknown recipients get 451 part of the time though all is well; set stale_after above poll`},
		{"[ldaps://dc1.corp.example]", "    poll: 1h\nlate_after: 2h\nstale_after: 4h\n", ""},
		{"[ldaps://dc1.corp.example]", "late_after: 1s\n", `x.yaml:7:13: directories[0].poll: poll (5s) is not below late_after (1s), so status says late part of the time though all is well; set late_after above poll`},
		{`[ldaps://dc1.corp.example, "ldaps://dc2.corp.example:3269"]`, "", `x.yaml:5:38: directories[0].urls[1]: "ldaps://dc2.corp.example:3269" leads to a Global Catalog and "ldaps://dc1.corp.example:636" does not, so unknown recipients get 451 while the latter is read; use ports of one kind, or two directories`},
		{`["ldap://dc1.corp.example:3268", ldaps://dc2.corp.example]`, "", `x.yaml:5:44: directories[0].urls[1]: "ldap://dc1.corp.example:3268" leads to a Global Catalog and "ldaps://dc2.corp.example:636" does not, so unknown recipients get 451 while the latter is read; use ports of one kind, or two directories`},
	} {
		got, err := Parse("x.yaml", []byte("domains:\n  example.com: enforce\ndirectories:\n"+
			"  - name: corp\n    urls: "+c.urls+"\n    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n"+c.more))
		if err != nil {
			t.Errorf("urls %s, %q: %v", c.urls, c.more, err)
			continue
		}
		text := ""
		if w := errors.Join(got.Warnings()...); w != nil {
			text = w.Error()
		}
		if text != c.want {
			t.Errorf("urls %s, %q:\n%s\nwant\n%s", c.urls, c.more, text, c.want)
		}
	}
}
