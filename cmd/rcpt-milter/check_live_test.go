package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

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
		{"well", func(r *rig) { r.addAccount(adsim.Attrs{}) }, exitOK,
			"ok: directory corp: <URL>: account CN=svc-mail,CN=Users,DC=corp,DC=example, its password does not expire"},
		{"well", func(*rig) {}, exitOK, `ok: directory corp: <URL>: its certificate "dc1.corp.example" is good until `},
		{"well", func(*rig) {}, exitOK, "may list deleted objects"},
		{"well", func(*rig) {}, exitOK, "can be read: objectGUID, uSNChanged, whenChanged, proxyAddresses"},
		{"well", func(r *rig) { r.addAccount(adsim.Attrs{"mail": {"a@corp.example"}}) }, exitOK, "!warning"},
		{"down", func(r *rig) { r.server.Down() }, exitFailure, "connect"},
		{"no such host", func(r *rig) { r.edit("127.0.0.1", "no-such-host.invalid") }, exitFailure,
			"the host name does not resolve; correct the URL or the name server"},
		{"expired certificate", func(r *rig) { r.server.SetCertificate(adsim.Expired) }, exitFailure,
			"the certificate has expired; renew it"},
		{"unknown authority", func(r *rig) { r.server.SetCertificate(adsim.OtherCA) }, exitFailure,
			"set tls.ca_file to the certificate of the authority"},
		{"certificate for another", func(r *rig) { r.server.SetCertificate(adsim.WrongName) }, exitFailure,
			"use one of its names (elsewhere.example)"},
		{"expiring certificate", func(r *rig) { r.server.SetCertificate(adsim.Expiring) }, exitOK,
			"(in 6 days); renew it on the controller"},
		{"wrong password", func(r *rig) { r.server.SetPassword("other") }, exitFailure,
			"the name or the password is wrong; correct bind.dn or the password file"},
		{"locked out, and no bind", func(r *rig) { r.server.SetFaults(adsim.Faults{BindSubCode: "775"}) }, exitFailure,
			"the account is locked out; unlock it"},
		{"locked out", func(r *rig) { r.addAccount(adsim.Attrs{"msDS-User-Account-Control-Computed": {"16"}}) },
			exitFailure, "is locked out; unlock it, and look for a wrong password in use elsewhere"},
		{"password ends soon", func(r *rig) {
			r.addAccount(adsim.Attrs{"msDS-UserPasswordExpiryTimeComputed": {interval(5*day + time.Hour)}})
		}, exitOK, `(in 5 days); set "password never expires", or put a new one into bind.password_file in time`},
		{"password ends", func(r *rig) {
			r.addAccount(adsim.Attrs{"msDS-UserPasswordExpiryTimeComputed": {interval(90*day + time.Hour)}})
		}, exitOK, "(in 90 days); a service cannot change it"},
		{"account ends", func(r *rig) { r.addAccount(adsim.Attrs{"accountExpires": {interval(9*day + time.Hour)}}) },
			exitOK, "(in 9 days); extend it"},
		{"account of another domain", func(*rig) {}, exitOK, "the account svc-mail@corp.example is not in this domain"},
		{"no right to deleted objects", func(r *rig) { r.ad.WithholdDeleted(true); r.addAccount(adsim.Attrs{}) }, exitFailure,
			`dsacls "CN=Deleted Objects,DC=corp,DC=example" /takeownership, and then: dsacls "CN=Deleted Objects,DC=corp,DC=example" /G "CORP\svc-mail:LCRP"`},
		{"the same, account not found", func(r *rig) { r.ad.WithholdDeleted(true) }, exitFailure,
			`/G "svc-mail@corp.example:LCRP"`},
		{"hidden proxyAddresses", func(r *rig) { r.ad.Hide("proxyAddresses") }, exitFailure,
			"no object shows proxyAddresses: either no object has an address there, or this account may not read it; give " +
				"svc-mail@corp.example the right"},
		{"hidden uSNChanged", func(r *rig) { r.ad.Hide("uSNChanged") }, exitFailure,
			"no object shows uSNChanged: changes cannot be followed; give"},
		{"hidden objectGUID", func(r *rig) { r.ad.Hide("objectGUID") }, exitFailure, "no object shows objectGUID"},
		{"hidden whenChanged", func(r *rig) { r.ad.Hide("whenChanged") }, exitOK,
			"warning: directory corp: <URL>: no object shows whenChanged"},
		{"nothing to be seen", func(r *rig) { r.ad.Hide("objectClass") }, exitFailure,
			"sees no user, group or contact at all"},
		{"knob without its attribute", func(r *rig) { r.edit("poll: 100ms", "poll: 100ms\n    internal_only: refuse") },
			exitOK, "no object shows msExchRequireAuthToSendTo"},
		{"a base that is not there", func(r *rig) {
			r.edit("poll: 100ms",
				"poll: 100ms\n    bases: [\"OU=Staf,DC=corp,DC=example\"]")
		}, exitFailure,
			"there is no OU=Staf,DC=corp,DC=example"},
		{"hybrid by an address", func(r *rig) {
			r.addUser("cloud", "smtp:c@corp.example",
				"smtp:c@corp.mail.onmicrosoft.com")
		}, exitOK, "has addresses such as c@corp.mail.onmicrosoft.com: it is a hybrid " +
			"one"},
		{"hybrid by an accepted domain", func(r *rig) { r.addAccepted("corp.mail.onmicrosoft.com", "0") }, exitOK,
			"accepts mail for corp.mail.onmicrosoft.com: it is a hybrid one"},
		{"child domain", func(r *rig) {
			r.add(adsim.CrossRef, "CN=CHILD,CN=Partitions,"+configurationNC, adsim.Attrs{"nCName": {"DC=child," + base},
				"dnsRoot": {"child.corp.example"}, "systemFlags": {"3"}})
		}, exitOK, "the forest has a domain child.corp.example too, which no directory reads"},
		{"DNS zone, which is no domain", func(r *rig) {
			r.add(adsim.CrossRef, "CN=ZONES,CN=Partitions,"+configurationNC,
				adsim.Attrs{"nCName": {"DC=ForestDnsZones," + base}, "dnsRoot": {"zones.corp.example"}, "systemFlags": {"5"}})
		}, exitOK, "!zones.corp.example"},
		{"accepted domain without an entry", func(r *rig) { r.addAccepted("brand.example", "0") }, exitOK,
			`Exchange accepts mail for brand.example, which has no entry in domains: its recipients are not judged; add "brand.example: report"`},
		{"accepted sub-domains without an entry", func(r *rig) { r.addAccepted("*.brand.example", "0") }, exitOK,
			`add ".brand.example: report"`},
		{"accepted domain with an entry", func(r *rig) { r.addAccepted("corp.example", "0") }, exitOK,
			"!Exchange accepts mail for corp.example"},
		{"relay domain that is enforced", func(r *rig) { r.addAccepted("corp.example", "2") }, exitOK,
			"they would be refused; use mode pass"},
		{"relay domain without an entry", func(r *rig) { r.addAccepted("partner.example", "1") }, exitOK,
			"!mail for partner.example"},
		{"entry without an accepted domain", func(r *rig) { r.addAccepted("corp.example", "0") }, exitOK,
			"domains names report.example, which is no accepted domain of Exchange"},
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
