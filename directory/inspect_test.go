package directory

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/testenv/adsim"
)

// interval writes a time as fileTime reads it.
func interval(at time.Time) string {
	return strconv.FormatInt(at.UnixNano()/100+116444736000000000, 10)
}

func TestAccount(t *testing.T) {
	at := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	for name, attrs := range map[string]adsim.Attrs{
		"svc-mail": {"sAMAccountName": {"svc-mail"}, "msDS-UserPasswordExpiryTimeComputed": {interval(at)},
			"accountExpires": {"9223372036854775807"},
			"badPwdCount":    {"3"}, "msDS-User-Account-Control-Computed": {"0"}},
		"other": {"sAMAccountName": {"other"}, "msDS-UserPasswordExpiryTimeComputed": {"9223372036854775807"},
			"accountExpires": {"0"}},
		"locked": {"sAMAccountName": {"locked"}, "msDS-User-Account-Control-Computed": {"16"},
			"accountExpires": {interval(at)}},
		"renamed": {"sAMAccountName": {"short"}, "userPrincipalName": {"long@corp.example"}},
		"short":   {"sAMAccountName": {"long"}},
	} {
		must[adsim.GUID](t)(d.Add(adsim.User, "CN="+name+",CN=Users,"+base, attrs))
	}
	for _, c := range []struct {
		bind string
		want Account
	}{
		{"svc-mail@corp.example", Account{DN: "CN=svc-mail,CN=Users," + base, Name: "svc-mail", PasswordExpires: at,
			BadPasswords: 3}},
		{`CORP\svc-mail`, Account{DN: "CN=svc-mail,CN=Users," + base, Name: "svc-mail", PasswordExpires: at,
			BadPasswords: 3}},
		{"CN=other,CN=Users," + base, Account{DN: "CN=other,CN=Users," + base, Name: "other"}},
		{"locked@corp.example", Account{DN: "CN=locked,CN=Users," + base, Name: "locked", Locked: true, Expires: at}},
		{"long@corp.example", Account{DN: "CN=renamed,CN=Users," + base, Name: "short"}},
		{"nobody*@corp.example", Account{}},
	} {
		t.Run(c.bind, func(t *testing.T) {
			conn, _ := connect(t, d, adsim.ServerConfig{BindDN: c.bind}, nil)
			got, err := conn.Account(t.Context())
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("Account of %q: %v\n%s", c.bind, err, diff)
			}
		})
	}
}

func TestShown(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 2)
	d.Hide("whenChanged")
	conn, _ := connect(t, d, adsim.ServerConfig{}, nil)
	for attribute, want := range map[string]bool{"proxyAddresses": true, "uSNChanged": true, "objectGUID": true,
		"mail": false, "whenChanged": false} {
		if got, err := conn.Shown(t.Context(), attribute); got != want || err != nil {
			t.Errorf("Shown(%q) = %t, %v, want %t", attribute, got, err, want)
		}
	}
}

func TestAddressUnder(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	people(t, d, 2)
	conn, _ := connect(t, d, adsim.ServerConfig{}, nil)
	if got, err := conn.AddressUnder(t.Context(), "mail.onmicrosoft.com"); got != "" || err != nil {
		t.Errorf("AddressUnder = %q, %v, want none", got, err)
	}
	add(t, d, adsim.User, "CN=cloud,CN=Users,"+base, "cloud@corp.example", "cloud@Corp.mail.onmicrosoft.com")
	if got, err := conn.AddressUnder(t.Context(),
		"mail.onmicrosoft.com"); got != "cloud@Corp.mail.onmicrosoft.com" || err != nil {
		t.Errorf("AddressUnder = %q, %v", got, err)
	}
}

func TestForest(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	config := "CN=Configuration," + base
	must[adsim.GUID](t)(d.Add(adsim.CrossRef, "CN=CHILD,CN=Partitions,"+config, adsim.Attrs{
		"nCName": {"DC=child," + base}, "dnsRoot": {"Child.corp.example"}, "nETBIOSName": {"CHILD"},
		"systemFlags": {"3"}}))
	must[adsim.GUID](t)(d.Add(adsim.CrossRef, "CN=DNS,CN=Partitions,"+config, adsim.Attrs{
		"nCName": {"DC=DomainDnsZones," + base}, "dnsRoot": {"DomainDnsZones.corp.example"}, "systemFlags": {"5"}}))
	for name, flags := range map[string]string{"corp.example": "0", "Partner.example": "1", "*.corp.example": "0"} {
		must[adsim.GUID](t)(d.Add(adsim.AcceptedDomain, "CN="+name+",CN=Services,"+config, adsim.Attrs{
			"msExchAcceptedDomainName": {name}, "msExchAcceptedDomainFlags": {flags}}))
	}
	conn, _ := connect(t, d, adsim.ServerConfig{}, nil)
	got, err := conn.Forest(t.Context())
	want := Forest{
		Domains:  []ForestDomain{{base, "corp.example", "CORP"}, {"DC=child," + base, "child.corp.example", "CHILD"}},
		Accepted: []AcceptedDomain{{"*.corp.example", false}, {"corp.example", false}, {"partner.example", true}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Forest: %v\n%s", err, diff)
	}
}

func TestSchema(t *testing.T) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	for name, flag := range map[string]string{"proxyAddresses": "TRUE", "mail": "FALSE"} {
		must[adsim.GUID](t)(d.Add(adsim.AttributeSchema, "CN="+name+",CN=Schema,CN=Configuration,"+base, adsim.Attrs{
			"lDAPDisplayName": {name}, "isMemberOfPartialAttributeSet": {flag}}))
	}
	conn, _ := connect(t, d, adsim.ServerConfig{}, nil)
	for name, want := range map[string]SchemaAttribute{"proxyAddresses": {true, true}, "Mail": {true, false},
		"msExchNothing": {}} {
		if got, err := conn.Schema(t.Context(), name); got != want || err != nil {
			t.Errorf("Schema(%q) = %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestCertificates(t *testing.T) {
	conn, s := connect(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{}, nil)
	chain := conn.Certificates()
	if len(chain) != 2 || chain[0].VerifyHostname("localhost") != nil || !chain[1].IsCA {
		t.Errorf("%d certificates from %s", len(chain), s.URL())
	}
}
