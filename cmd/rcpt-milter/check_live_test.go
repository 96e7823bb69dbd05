package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/testenv/adsim"
)

const configurationNC = "CN=Configuration," + base

// add makes any object of the simulated directory.
func (r *rig) add(kind adsim.Kind, dn string, attrs adsim.Attrs) {
	r.t.Helper()
	if _, err := r.ad.Add(kind, dn, attrs); err != nil {
		r.t.Fatal(err)
	}
}

// addAccount makes the account that the daemon binds as.
func (r *rig) addAccount(attrs adsim.Attrs) {
	r.t.Helper()
	attrs["sAMAccountName"] = []string{"svc-mail"}
	r.add(adsim.User, "CN=svc-mail,CN=Users,"+base, attrs)
}

func (r *rig) addAccepted(name, flags string) {
	r.t.Helper()
	r.add(adsim.AcceptedDomain, "CN="+name+",CN=Services,"+configurationNC,
		adsim.Attrs{"msExchAcceptedDomainName": {name}, "msExchAcceptedDomainFlags": {flags}})
}

// interval is a time as Active Directory keeps it: in 100 ns since 1601.
func interval(from time.Duration) string {
	return strconv.FormatInt(time.Now().Add(from).UnixNano()/100+116444736000000000, 10)
}

const day = 24 * time.Hour

// TestCheckLive plants one fault after the other.
func TestCheckLive(t *testing.T) {
	for _, c := range []struct {
		what   string
		make   func(r *rig)
		status int
		want   string // in the output; "!" in front: not in it
	}{
		{"well", func(*rig) {}, exitOK, "dc1.corp.example of DC=corp,DC=example, invocationId "},
		{"well", func(r *rig) { r.addAccount(adsim.Attrs{}) }, exitOK, "ok: directory corp: <URL>: account CN=svc-mail,CN=Users,DC=corp,DC=example, its password does not expire"},
		{"well", func(*rig) {}, exitOK, `ok: directory corp: <URL>: its certificate "dc1.corp.example" is good until `},
		{"well", func(*rig) {}, exitOK, "may list deleted objects"},
		{"well", func(*rig) {}, exitOK, "can be read: objectGUID, uSNChanged, whenChanged, proxyAddresses"},
		{"well", func(r *rig) { r.addAccount(adsim.Attrs{"mail": {"a@corp.example"}}) }, exitOK, "!warning"},
		{"down", func(r *rig) { r.server.Down() }, exitFailure, "connect"},
		{"no such host", func(r *rig) { r.edit("127.0.0.1", "no-such-host.invalid") }, exitFailure, "the host name does not resolve; correct the URL or the name server"},
		{"expired certificate", func(r *rig) { r.server.SetCertificate(adsim.Expired) }, exitFailure, "the certificate has expired; renew it"},
		{"unknown authority", func(r *rig) { r.server.SetCertificate(adsim.OtherCA) }, exitFailure, "set tls.ca_file to the certificate of the authority"},
		{"certificate for another", func(r *rig) { r.server.SetCertificate(adsim.WrongName) }, exitFailure, "use one of its names (elsewhere.example)"},
		{"expiring certificate", func(r *rig) { r.server.SetCertificate(adsim.Expiring) }, exitOK, "(in 6 days); renew it on the controller"},
		{"wrong password", func(r *rig) { r.server.SetPassword("other") }, exitFailure, "the name or the password is wrong; correct bind.dn or the password file"},
		{"locked out, and no bind", func(r *rig) { r.server.SetFaults(adsim.Faults{BindSubCode: "775"}) }, exitFailure, "the account is locked out; unlock it"},
		{"locked out", func(r *rig) { r.addAccount(adsim.Attrs{"msDS-User-Account-Control-Computed": {"16"}}) }, exitFailure, "is locked out; unlock it, and look for a wrong password in use elsewhere"},
		{"password ends soon", func(r *rig) {
			r.addAccount(adsim.Attrs{"msDS-UserPasswordExpiryTimeComputed": {interval(5*day + time.Hour)}})
		}, exitOK, `(in 5 days); set "password never expires", or put a new one into bind.password_file in time`},
		{"password ends", func(r *rig) {
			r.addAccount(adsim.Attrs{"msDS-UserPasswordExpiryTimeComputed": {interval(90*day + time.Hour)}})
		}, exitOK, "(in 90 days); a service cannot be told to change it"},
		{"account ends", func(r *rig) { r.addAccount(adsim.Attrs{"accountExpires": {interval(9*day + time.Hour)}}) }, exitOK, "(in 9 days); extend it"},
		{"account of another domain", func(*rig) {}, exitOK, "the account svc-mail@corp.example is not found in this domain"},
		{"no right to deleted objects", func(r *rig) { r.ad.WithholdDeleted(true); r.addAccount(adsim.Attrs{}) }, exitFailure,
			`dsacls "CN=Deleted Objects,DC=corp,DC=example" /takeownership, and then: dsacls "CN=Deleted Objects,DC=corp,DC=example" /G "CORP\svc-mail:LCRP"`},
		{"the same, account not found", func(r *rig) { r.ad.WithholdDeleted(true) }, exitFailure, `/G "svc-mail@corp.example:LCRP"`},
		{"hidden proxyAddresses", func(r *rig) { r.ad.Hide("proxyAddresses") }, exitFailure, "no object shows proxyAddresses: either nobody has an address in it, or this account may not read it; give svc-mail@corp.example the right"},
		{"hidden uSNChanged", func(r *rig) { r.ad.Hide("uSNChanged") }, exitFailure, "no object shows uSNChanged: changes cannot be followed; give"},
		{"hidden objectGUID", func(r *rig) { r.ad.Hide("objectGUID") }, exitFailure, "no object shows objectGUID"},
		{"hidden whenChanged", func(r *rig) { r.ad.Hide("whenChanged") }, exitOK, "warning: directory corp: <URL>: no object shows whenChanged"},
		{"nothing to be seen", func(r *rig) { r.ad.Hide("objectClass") }, exitFailure, "sees no user, group or contact at all"},
		{"knob without its attribute", func(r *rig) { r.edit("poll: 100ms", "poll: 100ms\n    internal_only: refuse") }, exitOK, "no object shows msExchRequireAuthToSendTo"},
		{"a base that is not there", func(r *rig) { r.edit("poll: 100ms", "poll: 100ms\n    bases: [\"OU=Staf,DC=corp,DC=example\"]") }, exitFailure, "there is no OU=Staf,DC=corp,DC=example"},
		{"hybrid by an address", func(r *rig) { r.addUser("cloud", "smtp:c@corp.example", "smtp:c@corp.mail.onmicrosoft.com") }, exitOK, "has addresses such as c@corp.mail.onmicrosoft.com: it is a hybrid one"},
		{"hybrid by an accepted domain", func(r *rig) { r.addAccepted("corp.mail.onmicrosoft.com", "0") }, exitOK, "accepts mail for corp.mail.onmicrosoft.com: it is a hybrid one"},
		{"child domain", func(r *rig) {
			r.add(adsim.CrossRef, "CN=CHILD,CN=Partitions,"+configurationNC, adsim.Attrs{"nCName": {"DC=child," + base}, "dnsRoot": {"child.corp.example"}, "systemFlags": {"3"}})
		}, exitOK, "the forest has a domain child.corp.example too, which no directory follows"},
		{"DNS zone, which is no domain", func(r *rig) {
			r.add(adsim.CrossRef, "CN=ZONES,CN=Partitions,"+configurationNC, adsim.Attrs{"nCName": {"DC=ForestDnsZones," + base}, "dnsRoot": {"zones.corp.example"}, "systemFlags": {"5"}})
		}, exitOK, "!zones.corp.example"},
		{"accepted domain without an entry", func(r *rig) { r.addAccepted("brand.example", "0") }, exitOK, `Exchange accepts mail for brand.example, which has no entry in domains: its recipients are not judged; add "brand.example: report"`},
		{"accepted sub-domains without an entry", func(r *rig) { r.addAccepted("*.brand.example", "0") }, exitOK, `add ".brand.example: report"`},
		{"accepted domain with an entry", func(r *rig) { r.addAccepted("corp.example", "0") }, exitOK, "!Exchange accepts mail for corp.example"},
		{"relay domain that is enforced", func(r *rig) { r.addAccepted("corp.example", "2") }, exitOK, "they would be refused; use mode pass"},
		{"relay domain without an entry", func(r *rig) { r.addAccepted("partner.example", "1") }, exitOK, "!mail for partner.example"},
		{"entry without an accepted domain", func(r *rig) { r.addAccepted("corp.example", "0") }, exitOK, "domains names report.example, which is no accepted domain of Exchange"},
	} {
		r := newRig(t)
		c.make(r)
		out := r.want(c.status, "check", "--live")
		want, absent := strings.CutPrefix(strings.ReplaceAll(c.want, "<URL>", r.server.URL()), "!")
		if c.what == "well" && absent {
			want = "warning"
		}
		if strings.Contains(out, want) == absent {
			t.Errorf("%s: check --live says\n%swant %q", c.what, out, c.want)
		}
		r.want(exitOK, "check")
	}
}

// checker is a check of a controller whose findings go to a buffer.
func checker() (*controllerCheck, func() string) {
	a, out := pageApp()
	return &controllerCheck{liveCheck: &liveCheck{findings: &findings{app: a}, config: &config.Config{}}, where: "dc1",
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
		{[]*x509.Certificate{cert("dc1", 400*day), cert("CA", 400*day)}, `ok: dc1: its certificate "dc1" is good until 2027-04-08 (in 400 days)` + "\n"},
		{[]*x509.Certificate{cert("dc1", 29*day)}, `warning: dc1: its certificate "dc1" ends on 2026-04-02 (in 29 days); renew it on the controller: without it nothing can be read` + "\n"},
		{[]*x509.Certificate{cert("dc1", 400*day), cert("CA", 3*day)}, `ok: dc1: its certificate "dc1" is good until 2027-04-08 (in 400 days)` + "\n" +
			`warning: dc1: the certificate of the authority "CA" ends on 2026-03-07 (in 3 days); let it be renewed, and put the new one into tls.ca_file beside the old one: without it nothing can be read` + "\n"},
		{[]*x509.Certificate{{DNSNames: []string{"dc1.x.test"}, NotAfter: noon.Add(day)}}, `warning: dc1: its certificate "dc1.x.test" ends on 2026-03-05 (in 24 hours); renew it on the controller: without it nothing can be read` + "\n"},
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
		{"clock wrong", func(c *controllerCheck) { c.root.Now = noon.Add(-time.Hour); c.checkClock() }, 0, "differ by 60 minutes; set both by NTP"},
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
		}, 0, "somebody tried 3 wrong passwords for CN=svc since it last logged on here, and 5 lock it"},
		{"keytab whose password ends", func(c *controllerCheck) {
			c.account, c.d.Bind.Keytab = directory.Account{DN: "CN=svc", PasswordExpires: noon.Add(day)}, "/k"
			c.checkAccount()
		}, 0, "or make a new keytab in time"},
	} {
		check, out := checker()
		c.make(check)
		if !strings.Contains(out(), c.want) || c.want == "" && out() != "" || check.bad != c.bad {
			t.Errorf("%s: %d problems and\n%swant %d and %q", c.what, check.bad, out(), c.bad, c.want)
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
		r := newRig(t)
		if c.inCatalog != "" {
			r.add(adsim.AttributeSchema, "CN=proxy,CN=Schema,"+configurationNC, adsim.Attrs{"lDAPDisplayName": {"proxyAddresses"}, "isMemberOfPartialAttributeSet": {c.inCatalog}})
		}
		settings, err := config.Load(r.config)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := directory.Dial(t.Context(), controllerConfig(settings.Directories[0], r.server.URL()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		check, out := checker()
		check.conn, check.root.GlobalCatalog = conn, true
		if err := check.checkGlobalCatalog(t.Context()); err != nil || check.bad != c.bad || !strings.Contains(out(), c.want) {
			t.Errorf("in the catalog %q: %d problems, %v\n%s", c.inCatalog, check.bad, err, out())
		}
	}
}
