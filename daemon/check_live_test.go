package daemon

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/testenv/adsim"
)

// checker returns a check of a controller, and a function that returns its findings.
func checker() (*controllerCheck, func() []Finding) {
	var found []Finding
	live := &liveCheck{findings: &findings{visit: func(f Finding) { found = append(found, f) }},
		config: &config.Config{}, now: func() time.Time { return noon }}
	return &controllerCheck{liveCheck: live, where: "dc1",
			d: config.Directory{Bind: config.Bind{DN: "svc"}, AddressAttributes: []string{"proxyAddresses"}}},
		func() []Finding { return found }
}

// levelNames formats findings as level:name, separated by blanks.
func levelNames(all []Finding) string {
	var names []string
	for _, f := range all {
		names = append(names, f.Level.String()+":"+f.Name)
	}
	return strings.Join(names, " ")
}

func TestCheckCertificates(t *testing.T) {
	cert := func(name string, left time.Duration) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: noon.Add(left)}
	}
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		want  string   // level:name
		names []string // expected in the last finding
	}{
		{"good", []*x509.Certificate{cert("dc1", 400*day), cert("CA", 400*day)}, "ok:certificate",
			[]string{`"dc1"`, "2027-04-08 (in 400 days)"}},
		{"ends soon", []*x509.Certificate{cert("dc1", 29*day)}, "warning:certificate",
			[]string{`"dc1"`, "2026-04-02 (in 29 days)", "renew it on the controller"}},
		{"authority ends soon", []*x509.Certificate{cert("dc1", 400*day), cert("CA", 3*day)},
			"ok:certificate warning:certificate", []string{`authority "CA"`, "2026-03-07 (in 3 days)", "tls.ca_file"}},
		{"without a common name", []*x509.Certificate{{DNSNames: []string{"dc1.x.test"}, NotAfter: noon.Add(day)}},
			"warning:certificate", []string{`"dc1.x.test"`, "2026-03-05 (in 24 hours)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			check, found := checker()
			check.checkCertificates(c.chain)
			if got := levelNames(found()); got != c.want {
				t.Fatalf("checkCertificates finds %s, want %s", got, c.want)
			}
			last := found()[len(found())-1].Text
			for _, want := range c.names {
				if !strings.Contains(last, want) {
					t.Errorf("finding %q, want %q", last, want)
				}
			}
		})
	}
}

func TestCheckClockNameAndAccount(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(*controllerCheck)
		want  string // level:name
		value string // expected in the finding
	}{
		{"clock right", func(c *controllerCheck) { c.root.Now = noon.Add(-time.Second); c.checkClock() }, "", ""},
		{"clock unknown", func(c *controllerCheck) { c.checkClock() }, "", ""},
		{"clock wrong", func(c *controllerCheck) { c.root.Now = noon.Add(-time.Hour); c.checkClock() }, "warning:clock",
			"60 minutes"},
		{"clock wrong for Kerberos", func(c *controllerCheck) {
			c.root.Now, c.d.Bind.Keytab = noon.Add(time.Hour), "/k"
			c.checkClock()
		}, "problem:clock", "Kerberos"},
		{"not synchronized", func(c *controllerCheck) { c.root.Unsynchronized = true; c.checkSynchronized() },
			"warning:not-synchronized", "check its replication"},
		{"synchronized", func(c *controllerCheck) { c.checkSynchronized() }, "", ""},
		{"one address", func(c *controllerCheck) { c.url = "ldaps://ad.x.test"; c.checkName([]string{"192.0.2.1"}) },
			"", ""},
		{"several addresses", func(c *controllerCheck) {
			c.url, c.root.DNSHostName = "ldaps://ad.x.test", "dc1.x.test"
			c.checkName([]string{"192.0.2.1", "192.0.2.2"})
		}, "warning:ambiguous-name", "2 addresses and led to dc1.x.test"},
		{"several addresses of one", func(c *controllerCheck) {
			c.url, c.root.DNSHostName = "ldaps://DC1.x.test:636", "dc1.x.test"
			c.checkName([]string{"192.0.2.1", "2001:db8::1"})
		}, "", ""},
		{"wrong passwords", func(c *controllerCheck) {
			c.account = directory.Account{DN: "CN=svc", BadPasswords: 3, Lockout: 5}
			c.checkAccount()
		}, "warning:wrong-passwords ok:password", "3 wrong passwords for CN=svc"},
		{"password ends", func(c *controllerCheck) {
			c.account = directory.Account{DN: "CN=svc", PasswordExpires: noon.Add(day)}
			c.checkAccount()
		}, "warning:password", "bind.password_file"},
		{"keytab whose password ends", func(c *controllerCheck) {
			c.account, c.d.Bind.Keytab = directory.Account{DN: "CN=svc", PasswordExpires: noon.Add(day)}, "/k"
			c.checkAccount()
		}, "warning:password", "new keytab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check, found := checker()
			c.make(check)
			if got := levelNames(found()); got != c.want {
				t.Fatalf("the check finds %s, want %s", got, c.want)
			}
			if c.want != "" && !strings.Contains(found()[0].Text, c.value) {
				t.Errorf("finding %q, want %q", found()[0].Text, c.value)
			}
		})
	}
}

// TestCheckGlobalCatalog checks that the schema determines whether a Global Catalog port is reported as lacking
// addresses.
func TestCheckGlobalCatalog(t *testing.T) {
	for _, c := range []struct {
		name      string
		inCatalog string // isMemberOfPartialAttributeSet
		want      string // level:name
	}{
		{"attribute in the catalog", "TRUE", "warning:global-catalog"},
		{"attribute not in the catalog", "FALSE", "problem:global-catalog"},
		{"schema not readable", "", "warning:global-catalog"},
	} {
		t.Run(c.name, func(t *testing.T) {
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
			check, found := checker()
			check.conn, check.root.GlobalCatalog = conn, true
			if err := check.checkGlobalCatalog(t.Context()); err != nil || levelNames(found()) != c.want {
				t.Errorf("the check finds %+v, %v, want %s", found(), err, c.want)
			}
		})
	}
}
