package main

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/daemon"
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

// findings returns what a check finds.
func (r *rig) findings(live bool) []daemon.Finding {
	r.t.Helper()
	c, err := config.Load(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	var all []daemon.Finding
	err = daemon.Check(r.t.Context(), daemon.CheckOptions{ConfigPath: r.config, Config: c, Live: live, Now: time.Now},
		func(f daemon.Finding) { all = append(all, f) })
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// named returns the findings with a level and a name, written as level:name. Warnings and
// problems come without a name too, as "warning" and "problem".
func named(all []daemon.Finding, levelName string) []daemon.Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f daemon.Finding) bool {
		return levelName != f.Level.String()+":"+f.Name && levelName != f.Level.String()
	})
}

// TestCheckLive plants one problem after the other.
func TestCheckLive(t *testing.T) {
	for _, c := range []struct {
		name   string
		make   func(r *rig)
		want   string // level:name of a finding; "!" in front means that there is none
		detail string // a value that it names, or the error of a library; empty means no matter
	}{
		{"well: controller", func(*rig) {}, "ok:controller", "dc1.corp.example of DC=corp,DC=example, invocationId "},
		{"well: account", func(r *rig) { r.addAccount(adsim.Attrs{}) },
			"ok:password",
			"CN=svc-mail,CN=Users,DC=corp,DC=example"},
		{"well: certificate", func(*rig) {}, "ok:certificate", `"dc1.corp.example"`},
		{"well: deleted objects", func(*rig) {}, "ok:deleted-objects", ""},
		{"well: attributes", func(*rig) {}, "ok:attributes", "objectGUID, uSNChanged, whenChanged, proxyAddresses"},
		{"well: no warning", func(r *rig) { r.addAccount(adsim.Attrs{"mail": {"a@corp.example"}}) }, "!warning", ""},
		{"well: no problem", func(r *rig) { r.addAccount(adsim.Attrs{"mail": {"a@corp.example"}}) }, "!problem", ""},
		{"down", func(r *rig) { r.server.Down() }, "problem:controller", "connect"},
		{"no such host", func(r *rig) { r.edit("127.0.0.1", "no-such-host.invalid") }, "problem:controller",
			"the host name does not resolve"},
		{"expired certificate", func(r *rig) { r.server.SetCertificate(adsim.Expired) }, "problem:controller",
			"the certificate has expired"},
		{"unknown authority", func(r *rig) { r.server.SetCertificate(adsim.OtherCA) }, "problem:controller",
			"tls.ca_file"},
		{"certificate for another", func(r *rig) { r.server.SetCertificate(adsim.WrongName) }, "problem:controller",
			"elsewhere.example"},
		{"expiring certificate", func(r *rig) { r.server.SetCertificate(adsim.Expiring) }, "warning:certificate",
			"(in 6 days)"},
		{"wrong password", func(r *rig) { r.server.SetPassword("other") }, "problem:controller", "bind.dn"},
		{"locked out, and no bind", func(r *rig) { r.server.SetFaults(adsim.Faults{BindSubCode: "775"}) },
			"problem:controller", "the account is locked out"},
		{"locked out", func(r *rig) { r.addAccount(adsim.Attrs{"msDS-User-Account-Control-Computed": {"16"}}) },
			"problem:account-locked", ""},
		{"password ends soon", func(r *rig) {
			r.addAccount(adsim.Attrs{"msDS-UserPasswordExpiryTimeComputed": {interval(5*day + time.Hour)}})
		}, "warning:password", `(in 5 days); set "password never expires"`},
		{"password ends", func(r *rig) {
			r.addAccount(adsim.Attrs{"msDS-UserPasswordExpiryTimeComputed": {interval(90*day + time.Hour)}})
		}, "warning:password", "(in 90 days), and a service cannot change it; set"},
		{"account ends", func(r *rig) { r.addAccount(adsim.Attrs{"accountExpires": {interval(9*day + time.Hour)}}) },
			"warning:account-expires", "(in 9 days)"},
		{"account of another domain", func(*rig) {}, "warning:account-foreign", "svc-mail@corp.example"},
		{"no right to deleted objects", func(r *rig) { r.ad.WithholdDeleted(true); r.addAccount(adsim.Attrs{}) },
			"problem:deleted-objects", `dsacls "CN=Deleted Objects,DC=corp,DC=example" /G "CORP\svc-mail:LCRP"`},
		{"the same, account not found", func(r *rig) { r.ad.WithholdDeleted(true) }, "problem:deleted-objects",
			`/G "svc-mail@corp.example:LCRP"`},
		{"hidden proxyAddresses", func(r *rig) { r.ad.Hide("proxyAddresses") }, "problem:attribute-hidden",
			"proxyAddresses"},
		{"hidden uSNChanged", func(r *rig) { r.ad.Hide("uSNChanged") }, "problem:attribute-hidden", "uSNChanged"},
		{"hidden objectGUID", func(r *rig) { r.ad.Hide("objectGUID") }, "problem:attribute-hidden", "objectGUID"},
		{"hidden whenChanged", func(r *rig) { r.ad.Hide("whenChanged") }, "warning:attribute-hidden", "whenChanged"},
		{"nothing to be seen", func(r *rig) { r.ad.Hide("objectClass") }, "problem:objects-hidden", ""},
		{"knob without its attribute", func(r *rig) { r.edit("poll: 100ms", "poll: 100ms\n    internal_only: refuse") },
			"warning:attribute-hidden", "msExchRequireAuthToSendTo"},
		{"a base that is not there", func(r *rig) {
			r.edit("poll: 100ms",
				"poll: 100ms\n    bases: [\"OU=Staf,DC=corp,DC=example\"]")
		}, "problem:base-missing", "OU=Staf,DC=corp,DC=example"},
		{"hybrid by an address", func(r *rig) {
			r.addUser("cloud", "smtp:c@corp.example",
				"smtp:c@corp.mail.onmicrosoft.com")
		}, "warning:hybrid", "c@corp.mail.onmicrosoft.com"},
		{"hybrid by an accepted domain", func(r *rig) { r.addAccepted("corp.mail.onmicrosoft.com", "0") },
			"warning:hybrid", "accepts mail for corp.mail.onmicrosoft.com"},
		{"child domain", func(r *rig) {
			r.add(adsim.CrossRef, "CN=CHILD,CN=Partitions,"+configurationNC, adsim.Attrs{"nCName": {"DC=child," + base},
				"dnsRoot": {"child.corp.example"}, "systemFlags": {"3"}})
		}, "warning:domain-unread", "child.corp.example"},
		{"DNS zone, which is no domain", func(r *rig) {
			r.add(adsim.CrossRef, "CN=ZONES,CN=Partitions,"+configurationNC,
				adsim.Attrs{"nCName": {"DC=ForestDnsZones," + base}, "dnsRoot": {"zones.corp.example"},
					"systemFlags": {"5"}})
		}, "!warning:domain-unread", ""},
		{"accepted domain without an entry", func(r *rig) { r.addAccepted("brand.example", "0") },
			"warning:domain-missing", `"brand.example: report"`},
		{"accepted sub-domains without an entry", func(r *rig) { r.addAccepted("*.brand.example", "0") },
			"warning:domain-missing", `".brand.example: report"`},
		{"accepted domain with an entry", func(r *rig) { r.addAccepted("corp.example", "0") },
			"!warning:domain-missing", ""},
		{"relay domain that is enforced", func(r *rig) { r.addAccepted("corp.example", "2") }, "warning:relay-domain",
			"corp.example"},
		{"relay domain without an entry", func(r *rig) { r.addAccepted("partner.example", "1") },
			"!warning:relay-domain", ""},
		{"entry without an accepted domain", func(r *rig) { r.addAccepted("corp.example", "0") },
			"warning:domain-not-accepted", "report.example"},
		{"a domain alias without an accepted domain", func(r *rig) {
			r.addAccepted("corp.example", "0")
			r.edit("removal_grace: 0s", "removal_grace: 0s\ndomain_aliases: {report.example: corp.example}")
		}, "!warning:domain-not-accepted", "report.example"},
		{"an alias of an accept file without an accepted domain", func(r *rig) {
			r.addAccepted("corp.example", "0")
			file := r.write("virtual", "@report.example @corp.example\n")
			r.edit("removal_grace: 0s", "removal_grace: 0s\naccept_files: ["+file+"]")
		}, "!warning:domain-not-accepted", "report.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.make(r)
			all := r.findings(true)
			want, absent := strings.CutPrefix(c.want, "!")
			found := slices.ContainsFunc(named(all, want), func(f daemon.Finding) bool {
				return strings.Contains(f.Text, c.detail)
			})
			if found == absent {
				t.Errorf("check --live finds %+v, want %s with %q", all, c.want, c.detail)
			}
			if problems := named(r.findings(false), "problem"); len(problems) > 0 {
				t.Errorf("check without --live finds %+v", problems)
			}
		})
	}
}

// TestCheckLiveStatus: the exit status is the one of the help, and errors come last.
func TestCheckLiveStatus(t *testing.T) {
	r := newRig(t)
	if status, _, stderr := r.command("check", "--live"); status != exitOK || stderr != "" {
		t.Errorf("exit status %d with warnings only, standard error %q", status, stderr)
	}
	r.server.Down()
	for _, args := range [][]string{{"check", "--live"}} {
		var both bytes.Buffer
		status := run(t.Context(), append(args, "--config", r.config), &both, &both)
		if status != exitFailure || !errorsLast(both.String()) {
			t.Errorf("exit status %d with an error; the errors must come last:\n%s", status, &both)
		}
	}
	r.want(exitOK, "check")
	r.edit("removal_grace: 0s", "removal_grace: 0s\naccept_files: [/no/such/file]")
	if status, stdout, stderr := r.command("check", "--live"); status != exitConfig || stdout != "" {
		t.Errorf("exit status %d with a missing file, %q, standard error %q", status, stdout, stderr)
	}
}

// errorsLast reports whether output has a line of an error, and none of another kind after it.
func errorsLast(output string) bool {
	_, rest, found := strings.Cut("\n"+output, "\nerror: ")
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "ok: ") || strings.HasPrefix(line, "warning: ") {
			return false
		}
	}
	return found
}
