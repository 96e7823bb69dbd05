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

// TestBackslash: an account in double quotes is rejected with the remedy if YAML takes its backslash for an escape,
// and none is read as another name.
func TestBackslash(t *testing.T) {
	const mistaken, control = "in double quotes a backslash begins an escape; use single quotes", "control character"
	for dn, want := range map[string]string{
		`"CORP\svc"`: mistaken, `"CORP\xsvc"`: mistaken, `"CORP\xavier"`: mistaken, `"CORP\user"`: mistaken,
		`"CORP\udo.maier"`: mistaken, `"CORP\Usvc"`: mistaken, `"CORP\Ulrich.maier"`: mistaken, `"CORP\x"`: mistaken,
		`"CORP\Peter"`: mistaken, `"CORP\Lars"`: mistaken, `"CORP\_svc"`: mistaken, `"CORP\ svc"`: mistaken,
		`"CORP\xadmin"`: mistaken, // a soft hyphen
		`"CORP\bob"`:    control, `"CORP\ann"`: control, `"CORP\tim"`: control, `"CORP\Nora"`: control,
		`"CORP\0svc"`: control, `"CORP\x09svc"`: control,
		`'CORP\xsvc'`: "", `CORP\xsvc`: "", `"CORP\\xsvc"`: "", `"CORP\\\\usvc"`: "", `"J\u00f6rg"`: "",
		`"J\xf6rg"`: "",
		`"\"svc\""`: "", `"\ud83d\ude00"`: "", `"a\u200bb\u00ad\ufeff\u2028\U000e0001"`: "", // as JSON is written
		"\"CN=J\\xf6rg,OU=Service\\\n          \\ Accounts\"": "", // as PyYAML and Ansible wrap a long text
		// as PyYAML and Ansible write a no-break space and others in a distinguished name
		`"OU=Sales\_Team,DC=corp,DC=example"`: "", `"cn=J\xf6rg\xad\L,OU=a\Pb,DC=corp"`: "",
		`"OU=Sales\ ,DC=corp"`: mistaken, // an escape of LDAP (RFC 4514)
		`"CN=CORP\xsvc"`:       mistaken, `"CN=CORP\svc"`: mistaken, `"CORP=\_svc"`: mistaken,
		"\"CORP\\\n          \\xsvc\"": mistaken, "\"CORP\n          x\\ svc\"": mistaken,
	} {
		for _, form := range []string{"    bind: {dn: %, password_file: /etc/p}\n",
			"    bind:\n      dn: %\n      password_file: /etc/p\n"} {
			text := "domains: {corp.example: enforce}\ndirectories:\n  - name: corp\n" +
				"    urls: [ldaps://dc1.corp.example]\n" +
				strings.Replace(form, "%", dn, 1)
			_, err := Parse("config.yaml", []byte(text))
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) ||
				!strings.HasPrefix(err.Error(), "config.yaml:") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("dn: %s: error %v, want %q", dn, err, want)
			}
		}
	}
}
