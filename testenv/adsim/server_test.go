package adsim

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// dial connects and binds an ordinary LDAP client.
func dial(t *testing.T, s *Server) *ldap.Conn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA())
	c, err := ldap.DialURL(s.URL(), ldap.DialWithTLSConfig(&tls.Config{RootCAs: roots}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ok(t, c.Bind(s.BindDN(), s.Password()))
	return c
}

func query(scope int, baseDN, filter string, attrs []string, controls ...ldap.Control) *ldap.SearchRequest {
	return ldap.NewSearchRequest(baseDN, scope, ldap.NeverDerefAliases, 0, 0, false, filter, attrs, controls)
}

func critical(oid string) ldap.Control { return ldap.NewControlString(oid, true, "") }

func TestFilters(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	c := dial(t, StartTest(t, d, ServerConfig{}))
	people := "OU=People," + base
	add(t, d, OU, people)
	must[GUID](t)(d.Add(User, "CN=Anna,"+people, Attrs{"mail": {"Anna@Corp.example"},
		"proxyAddresses": {"SMTP:anna@corp.example", "X500:/o=x"}}))
	must[GUID](t)(d.Add(User, "CN=Zoë,"+people, Attrs{"mail": {"zoë@corp.example"}}))
	ok(t, d.SetDisabled(must[GUID](t)(d.Add(User, "CN=Room,"+people, nil)), true))
	add(t, d, Computer, "CN=PC1,"+people)
	for _, tc := range []struct{ filter, want string }{
		{"(objectClass=user)", "Anna Zoë Room PC1"},
		{"(&(objectClass=user)(!(objectClass=computer)))", "Anna Zoë Room"},
		{"(mail=ANNA@corp.example)", "Anna"},
		{"(mail=zoe@corp.example)", "Zoë"}, // accents do not count
		{"(mail=*)", "Anna Zoë"},
		{"(!(mail=*))", "People Room PC1"},
		{"(!(mail=anna@corp.example))", "Zoë"}, // absent: Undefined, also under NOT
		{"(!(noSuchAttribute=1))", ""},
		{"(|(mail=anna@corp.example)(noSuchAttribute=1))", "Anna"},
		{"(proxyAddresses=smtp:*)", "Anna"},
		{"(proxyAddresses=*a@corp*)", "Anna"},
		{"(proxyAddresses=x500:*=x)", "Anna"},
		{"(proxyAddresses=x500:*=y)", ""},
		{"(userAccountControl:1.2.840.113556.1.4.803:=2)", "Room"},
		{"(uSNChanged<=99)", ""},
		{"(&(uSNChanged>=13)(cn=Room))", "Room"},
		{"(objectCategory=*)", "People Anna Zoë Room PC1"},
	} {
		t.Run(tc.filter, func(t *testing.T) {
			found, err := c.Search(query(ldap.ScopeWholeSubtree, people, tc.filter, []string{"name"}))
			if err != nil {
				t.Errorf("search %s: %v", tc.filter, err)
				return
			}
			var names []string
			for _, e := range found.Entries {
				names = append(names, e.GetAttributeValue("name"))
			}
			if got := strings.Join(names, " "); got != tc.want {
				t.Errorf("search %s = %q, want %q", tc.filter, got, tc.want)
			}
		})
	}
}

func TestPagingAndLimits(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	s := StartTest(t, d, ServerConfig{MaxPageSize: 4})
	c := dial(t, s)
	for i := range 10 {
		add(t, d, User, fmt.Sprintf("CN=u%d,CN=Users,%s", i, base))
	}
	_, err := c.Search(query(ldap.ScopeSingleLevel, "CN=Users,"+base, "(objectClass=user)", nil))
	if !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		t.Errorf("search without paging: %v", err)
	}
	found, err := c.SearchWithPaging(query(ldap.ScopeSingleLevel, "CN=Users,"+base, "(objectClass=user)", nil), 100)
	if err != nil || len(found.Entries) != 10 {
		t.Errorf("paged search: %d entries, %v", len(found.Entries), err)
	}
	s.LoseCookies(1)
	_, err = c.SearchWithPaging(query(ldap.ScopeSingleLevel, "CN=Users,"+base, "(objectClass=user)", nil), 100)
	if !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) || !strings.Contains(err.Error(), "00000057") {
		t.Errorf("lost cookie: %v", err)
	}
	_, err = c.Search(query(ldap.ScopeBaseObject, base, "(objectClass=*)", nil, critical("1.2.3.4")))
	if !ldap.IsErrorWithCode(err, ldap.LDAPResultUnavailableCriticalExtension) {
		t.Errorf("unknown critical control: %v", err)
	}
}

func TestTombstonesNeedTheControl(t *testing.T) {
	d := NewDirectory(DirectoryConfig{RecycleBin: true})
	c := dial(t, StartTest(t, d, ServerConfig{}))
	deleted, recycled := add(t, d, User, "CN=a,CN=Users,"+base), add(t, d, User, "CN=b,CN=Users,"+base)
	ok(t, d.Delete(deleted))
	ok(t, d.Delete(recycled))
	ok(t, d.Recycle(recycled))
	search := func(controls ...ldap.Control) int {
		t.Helper()
		found, err := c.Search(query(ldap.ScopeWholeSubtree, base, "(objectClass=user)", nil, controls...))
		ok(t, err)
		return len(found.Entries)
	}
	if got := search(); got != 0 {
		t.Errorf("without controls: %d", got)
	}
	if got := search(critical(oidShowDeleted)); got != 1 {
		t.Errorf("show deleted: %d", got)
	}
	if got := search(critical(oidShowDeleted), critical(oidShowRecycled)); got != 2 {
		t.Errorf("show recycled: %d", got)
	}
	d.WithholdDeleted(true)
	if got := search(critical(oidShowDeleted), critical(oidShowRecycled)); got != 0 {
		t.Errorf("withheld: %d", got)
	}
}

func TestRangesAndHiding(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	c := dial(t, StartTest(t, d, ServerConfig{MaxValRange: 2}))
	guid := add(t, d, User, "CN=many,CN=Users,"+base, "1@x", "2@x", "3@x", "4@x", "5@x")
	dn := fmt.Sprintf("<GUID=%x>", guid[:])
	for _, tc := range []struct{ ask, name, values string }{
		{"proxyAddresses", "proxyAddresses;range=0-1", "smtp:1@x smtp:2@x"},
		{"proxyaddresses;range=2-*", "proxyAddresses;range=2-3", "smtp:3@x smtp:4@x"},
		{"proxyAddresses;range=4-*", "proxyAddresses;range=4-*", "smtp:5@x"},
	} {
		t.Run(tc.ask, func(t *testing.T) {
			found, err := c.Search(query(ldap.ScopeBaseObject, dn, "(objectClass=*)", []string{tc.ask}))
			ok(t, err)
			if got := strings.Join(found.Entries[0].GetAttributeValues(tc.name), " "); got != tc.values {
				t.Errorf("%s: %s = %q, want %q", tc.ask, tc.name, got, tc.values)
			}
		})
	}
	_, err := c.Search(query(ldap.ScopeBaseObject, dn, "(objectClass=*)", []string{"proxyAddresses;range=9-*"}))
	if !ldap.IsErrorWithCode(err, ldap.LDAPResultOperationsError) {
		t.Errorf("range past the end: %v", err)
	}
	d.Hide("uSNChanged")
	found, err := c.Search(query(ldap.ScopeWholeSubtree, base, "(uSNChanged>=1)", nil))
	if err != nil || len(found.Entries) != 0 {
		t.Errorf("hidden uSNChanged: %d entries, %v", len(found.Entries), err)
	}
}

func TestContainerOfDeletedObjectsWithoutTheRight(t *testing.T) {
	d := NewDirectory(DirectoryConfig{})
	c := dial(t, StartTest(t, d, ServerConfig{}))
	for _, withheld := range []bool{false, true} {
		d.WithholdDeleted(withheld)
		found, err := c.Search(query(ldap.ScopeBaseObject, "CN=Deleted Objects,"+base, "(objectClass=*)",
			[]string{"objectClass"}, critical(oidShowDeleted)))
		ok(t, err)
		if attrs := len(found.Entries[0].Attributes); (attrs == 0) != withheld {
			t.Errorf("withheld %v: %d attributes", withheld, attrs)
		}
	}
}
