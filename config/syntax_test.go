package config

import (
	"strings"
	"testing"
)

// TestUnquotedName: each mistake with a distinguished name gets one message, with the remedy.
func TestUnquotedName(t *testing.T) {
	for _, c := range []struct{ name, bind, want string }{
		{"with a name", `{dn: CN=svc,OU=X,DC=corp,DC=example, password_file: /etc/p}`,
			`directories[0].bind: "OU=X" is part of a ` + "distinguished name; put quotes around the whole name"},
		{"in quotes", `{dn: "CN=svc,OU=X,DC=corp,DC=example", password_file: /etc/p}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("config.yaml", []byte("domains: {corp.example: enforce}\ndirectories:\n  - name: corp\n"+
				"    urls: [ldaps://dc1.corp.example]\n    bind: "+c.bind+"\n"))
			switch {
			case c.want == "" && err != nil, c.want != "" && err == nil:
				t.Fatalf("error %v, want %q", err, c.want)
			case err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("error\n%v\nwant one line with\n%s", err, c.want)
			}
		})
	}
}
