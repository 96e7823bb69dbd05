package postfix

import (
	"slices"
	"testing"
)

// TestEdgeSync: the file of an ldap: table names the port of an Edge Transport server, or another one.
func TestEdgeSync(t *testing.T) {
	for _, c := range []struct {
		name, table string
		words       []string
		want        bool
	}{
		{"port", "proxy:ldap:/etc/postfix/edge.cf", []string{"server_port", "=", "50389"}, true},
		{"port without blanks", "ldap:/etc/postfix/edge.cf", []string{"server_port=50636"}, true},
		{"host and port", "ldap:/etc/postfix/edge.cf", []string{"server_host", "=", "edge1.example:50389,"}, true},
		{"URL", "ldap:/etc/postfix/edge.cf", []string{"server_host", "=", "ldaps://edge1.example:50636/"}, true},
		{"a domain controller", "ldap:/etc/postfix/edge.cf", []string{"server_port", "=", "3269"}, false},
		{"in a password", "ldap:/etc/postfix/edge.cf", []string{"bind_pw", "=", "x50389x"}, false},
		{"in a filter", "ldap:/etc/postfix/edge.cf", []string{"(telephoneNumber=5038912)"}, false},
		{"not readable", "ldap:/etc/postfix/other.cf", []string{"50389"}, false},
		{"no file", "ldap:edge", []string{"50389"}, false},
		{"another table", "cdb:/etc/postfix/edge.cf", []string{"50389"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("relay_recipient_maps", c.table)
			s.tables["/etc/postfix/edge.cf"] = map[string]string{}
			for _, word := range c.words {
				s.tables["/etc/postfix/edge.cf"][word] = ""
			}
			found := slices.ContainsFunc(s.examine(), func(f Finding) bool { return f.Name == "edge-sync" })
			if found != c.want {
				t.Errorf("found %v", found)
			}
		})
	}
}
