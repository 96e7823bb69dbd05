package daemon

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/testenv/adsim"
)

// checker returns a check of a controller, and its findings as text.
func checker() (*controllerCheck, func() string) {
	var out strings.Builder
	write := func(f Finding) {
		fmt.Fprintf(&out, "%s: %s\n", [...]string{"ok", "warning", "problem"}[f.Level], f.Text)
	}
	live := &liveCheck{findings: &findings{visit: write}, config: &config.Config{}, now: func() time.Time { return noon }}
	return &controllerCheck{liveCheck: live, where: "dc1",
		d: config.Directory{Bind: config.Bind{DN: "svc"}, AddressAttributes: []string{"proxyAddresses"}}}, out.String
}

func TestCheckCertificates(t *testing.T) {
	cert := func(name string, left time.Duration) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: noon.Add(left)}
	}
	for _, c := range []struct {
		chain []*x509.Certificate
		want  string
	}{
		{[]*x509.Certificate{cert("dc1", 400*day), cert("CA", 400*day)},
			`ok: dc1: its certificate "dc1" is good until 2027-04-08 (in 400 days)` + "\n"},
		{[]*x509.Certificate{cert("dc1", 29*day)}, `warning: dc1: its certificate "dc1" ends on 2026-04-02 (in 29 days); renew it on the controller: without it nothing can be read` + "\n"},
		{[]*x509.Certificate{cert("dc1", 400*day), cert("CA", 3*day)},
			`ok: dc1: its certificate "dc1" is good until 2027-04-08 (in 400 days)` + "\n" +
				`warning: dc1: the certificate of the authority "CA" ends on 2026-03-07 (in 3 days); let it be renewed, and put the new one into tls.ca_file beside the old one: without it nothing can be read` + "\n"},
		{[]*x509.Certificate{{DNSNames: []string{"dc1.x.test"}, NotAfter: noon.Add(day)}},
			`warning: dc1: its certificate "dc1.x.test" ends on 2026-03-05 (in 24 hours); renew it on the controller: without it nothing can be read` + "\n"},
	} {
		check, out := checker()
		check.checkCertificates(c.chain)
		if out() != c.want {
			t.Errorf("checkCertificates says\n%swant\n%s", out(), c.want)
		}
	}
}

func TestCheckClockNameAndAccount(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(*controllerCheck)
		bad  int
		want string
	}{
		{"clock right", func(c *controllerCheck) { c.root.Now = noon.Add(-time.Second); c.checkClock() }, 0, ""},
		{"clock not told", func(c *controllerCheck) { c.checkClock() }, 0, ""},
		{"clock wrong", func(c *controllerCheck) { c.root.Now = noon.Add(-time.Hour); c.checkClock() }, 0,
			"differ by 60 minutes; set both by NTP"},
		{"clock wrong for Kerberos", func(c *controllerCheck) {
			c.root.Now, c.d.Bind.Keytab = noon.Add(time.Hour), "/k"
			c.checkClock()
		}, 1, "Kerberos takes no more than 5 minutes"},
		{"one address", func(c *controllerCheck) { c.url = "ldaps://ad.x.test"; c.checkName([]string{"192.0.2.1"}) }, 0, ""},
		{"several addresses", func(c *controllerCheck) {
			c.url, c.root.DNSHostName = "ldaps://ad.x.test", "dc1.x.test"
			c.checkName([]string{"192.0.2.1", "192.0.2.2"})
		}, 0, "this name has 2 addresses and led to dc1.x.test now"},
		{"several addresses of one", func(c *controllerCheck) {
			c.url, c.root.DNSHostName = "ldaps://DC1.x.test:636", "dc1.x.test"
			c.checkName([]string{"192.0.2.1", "2001:db8::1"})
		}, 0, ""},
		{"wrong passwords", func(c *controllerCheck) {
			c.account = directory.Account{DN: "CN=svc", BadPasswords: 3, Lockout: 5}
			c.checkAccount()
		}, 0, "3 wrong passwords for CN=svc since its last logon here, and 5 lock it"},
		{"keytab whose password ends", func(c *controllerCheck) {
			c.account, c.d.Bind.Keytab = directory.Account{DN: "CN=svc", PasswordExpires: noon.Add(day)}, "/k"
			c.checkAccount()
		}, 0, "or make a new keytab in time"},
	} {
		check, out := checker()
		c.make(check)
		if !strings.Contains(out(), c.want) || c.want == "" && out() != "" || check.problems != c.bad {
			t.Errorf("%s: %d problems and\n%swant %d and %q", c.what, check.problems, out(), c.bad, c.want)
		}
	}
}

// TestCheckGlobalCatalog: what its ports are good for, the schema says.
func TestCheckGlobalCatalog(t *testing.T) {
	for _, c := range []struct {
		inCatalog string // isMemberOfPartialAttributeSet
		bad       int
		want      string
	}{
		{"TRUE", 0, "has only a part of what objects have; use port 636 or 389"},
		{"FALSE", 1, "this is a port of the Global Catalog, which lacks proxyAddresses"},
		{"", 0, "has only a part of what objects have"}, // a schema that cannot be read
	} {
		ad, server, d := newTestDirectory(t)
		if c.inCatalog != "" {
			_, err := ad.Add(adsim.AttributeSchema, "CN=proxy,CN=Schema,"+configurationNC, adsim.Attrs{
				"lDAPDisplayName": {"proxyAddresses"}, "isMemberOfPartialAttributeSet": {c.inCatalog}})
			if err != nil {
				t.Fatal(err)
			}
		}
		conn, err := directory.Dial(t.Context(), controllerConfig(d, server.URL()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		check, out := checker()
		check.conn, check.root.GlobalCatalog = conn, true
		if err := check.checkGlobalCatalog(t.Context()); err != nil || check.problems != c.bad || !strings.Contains(out(),
			c.want) {
			t.Errorf("in the catalog %q: %d problems, %v\n%s", c.inCatalog, check.problems, err, out())
		}
	}
}
