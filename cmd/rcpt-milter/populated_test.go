package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/daemon"
	"rcpt-milter/testenv/adsim"
)

// enforce adds domains to the configuration.
func (r *rig) enforce(domains ...string) {
	r.t.Helper()
	r.edit("  corp.example: enforce\n", "  corp.example: enforce\n  "+strings.Join(domains, ": enforce\n  ")+
		": enforce\n")
}

// wantEmpty compares the enforced domains without an address.
func (r *rig) wantEmpty(want ...string) {
	r.t.Helper()
	if got := r.status().EmptyDomains; !slices.Equal(got, want) && len(got)+len(want) > 0 {
		r.t.Errorf("empty domains: %q, want %q", got, want)
	}
}

// TestEmptyDomain: a typing error in domains rejects no recipient, and every view reports it.
func TestEmptyDomain(t *testing.T) {
	r := newRig(t)
	r.enforce("copr.example")
	metrics := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+metrics)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitFailure, "lookup", "nobody@corp.example")
	if got := r.lookup(exitTemporary, "jane@copr.example"); got.Verdict != "not-ready" || got.Rule != 7 {
		t.Errorf("lookup gives %+v", got)
	}
	r.wantEmpty("copr.example")
	if s := r.status(); s.State != control.Fresh {
		t.Errorf("state %s", s.State)
	}
	if out := r.want(exitTemporary, "status"); !strings.Contains(out,
		"no address of copr.example is known, and domains says enforce") {
		t.Errorf("status says\n%s", out)
	}
	if out := r.want(exitTemporary, "status", "--nagios"); !strings.HasPrefix(out,
		"RCPT-MILTER CRITICAL - no address of copr.example is known") {
		t.Errorf("status --nagios says\n%s", out)
	}
	if found := named(r.findings(false), "warning:empty-domain"); len(found) != 1 ||
		!strings.Contains(found[0].Text, "copr.example") {
		t.Errorf("check beside the daemon finds %+v", found)
	}
	if out := r.scrape(metrics); !strings.Contains(out, "\nrcpt_milter_empty_domains 1\n") {
		t.Errorf("metrics:\n%s", out)
	}
	if n := d.log.count(`msg="enforced domain has no known address" domain=copr.example`, 1); n != 1 {
		t.Errorf("%d lines of it in the log\n%s", n, d.log)
	}
	d.stop()
	if found := named(r.findings(false), "warning:empty-domain"); len(found) != 1 ||
		!strings.Contains(found[0].Text, "copr.example") {
		t.Errorf("check of the store finds %+v", found)
	}
	d = r.serve()
	r.addUser("ann", "smtp:ann@copr.example")
	r.want(exitOK, "sync", "--wait")
	r.wantEmpty()
	r.want(exitOK, "status")
	r.want(exitFailure, "lookup", "jane@copr.example")
	if n := d.log.count(`msg="enforced domain is no longer without addresses" domain=copr.example`, 1); n != 1 {
		t.Errorf("%d lines of its end in the log\n%s", n, d.log)
	}
}

// TestEmptyDomainNamedByAList: a list that names an address makes the domain ready; what
// names none does not.
func TestEmptyDomainNamedByAList(t *testing.T) {
	for _, c := range []struct {
		what   string
		lines  string
		file   string
		domain string // that is enforced
		status int    // of looking up nobody@other.example
	}{
		{"nothing", "", "", "other.example", exitTemporary},
		{"an address", "accept: [ann@other.example]", "", "other.example", exitFailure},
		{"an address in another spelling", `accept: ["Ann@OTHER.example"]`, "", "other.example", exitFailure},
		{"an address of another domain", "accept: [ann@corp.example]", "", "other.example", exitTemporary},
		{"an address of a sub-domain", "accept: [ann@sub.other.example]", "", "other.example", exitTemporary},
		{"the domain", `accept: ["@other.example"]`, "", "other.example", exitOK},
		{"a refused address", "refuse: [ann@other.example]", "", "other.example", exitTemporary},
		{"a pattern", `accept_patterns: ['srs0=.*@other\.example']`, "", "other.example", exitTemporary},
		{"a file with an address", "", "ann@other.example x\n", "other.example", exitFailure},
		{"a file with the domain", "", "@other.example x\n", "other.example", exitOK},
		{"a file of another domain", "", "ann@corp.example x\n", "other.example", exitTemporary},
		{"a parent, nothing", "", "", ".example", exitTemporary},
		{"a parent, an address", "accept: [ann@other.example]", "", ".example", exitFailure},
		{"a parent, an address of another sub-domain", "accept: [ann@third.example]", "", ".example", exitTemporary},
		{"accept when not ready", "when_not_ready: accept", "", "other.example", exitOK},
	} {
		t.Run(c.what, func(t *testing.T) {
			lines := c.lines
			r := newRig(t, lines)
			if c.file != "" {
				r.edit("removal_grace: 0s", "removal_grace: 0s\naccept_files: ["+r.write("list", c.file)+"]")
			}
			r.enforce(c.domain)
			r.serve()
			r.want(exitOK, "sync", "--wait")
			r.want(c.status, "lookup", "nobody@other.example")
		})
	}
}

// TestEmptyParents: an entry for all sub-domains is empty if none of them has an address;
// each sub-domain that is asked for is judged by itself.
func TestEmptyParents(t *testing.T) {
	r := newRig(t)
	r.addUser("ann", "smtp:ann@a.sub.example")
	r.enforce(".sub.example", ".none.example", ".listed.example", ".corp.example")
	r.edit("removal_grace: 0s", "removal_grace: 0s\naccept: [x@y.listed.example]")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	r.wantEmpty(".corp.example", ".none.example")
	for address, status := range map[string]int{"nobody@a.sub.example": exitFailure,
		"nobody@b.sub.example":  exitTemporary,
		"nobody@a.none.example": exitTemporary, "nobody@y.listed.example": exitFailure,
		"nobody@z.listed.example": exitTemporary} {
		r.want(status, "lookup", address)
	}
	if out := r.want(exitTemporary, "status"); !strings.Contains(out,
		"no address of any sub-domain of none.example is known") {
		t.Errorf("status says\n%s", out)
	}
}

// TestEmptyDomainByReload: domains and list entries come and go while the daemon runs.
func TestEmptyDomainByReload(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "nobody@new.example", "continue")
	r.enforce("new.example")
	r.want(exitOK, "reload")
	session.want(t, "nobody@new.example", "451")
	r.wantEmpty("new.example")
	r.edit("removal_grace: 0s", "removal_grace: 0s\naccept: [ann@new.example]")
	r.want(exitOK, "reload")
	session.want(t, "nobody@new.example", "550")
	session.want(t, "ann@new.example", "continue")
	r.wantEmpty()
	r.edit("accept: [ann@new.example]", "")
	r.want(exitOK, "reload")
	session.want(t, "nobody@new.example", "451")
	r.edit("new.example: enforce", "new.example: report")
	r.want(exitOK, "reload")
	session.want(t, "nobody@new.example", "continue")
	r.wantEmpty()
}

// TestDomainLosesItsLastAddress: it is not ready again, when the removal was approved.
func TestDomainLosesItsLastAddress(t *testing.T) {
	r := newRig(t)
	guid := r.addUser("ann", "smtp:ann@small.example")
	r.enforce("small.example")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	r.want(exitFailure, "lookup", "nobody@small.example")
	if err := r.ad.Delete(guid); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait") // held
	r.want(exitOK, "lookup", "ann@small.example")
	r.want(exitFailure, "lookup", "nobody@small.example")
	r.want(exitOK, "removals", "approve")
	r.want(exitTemporary, "lookup", "ann@small.example")
	r.wantEmpty("small.example")
}

// TestEmptyDomainNotReadYet: while a directory that may own it has not been read, nothing
// is said of a domain.
func TestEmptyDomainNotReadYet(t *testing.T) {
	r := newRig(t)
	other, _ := r.withLab()
	other.server.Down()
	r.enforce("typo.example")
	r.serve()
	r.waitFor("corp has been read", func(s control.Status) bool { return s.Domains["corp.example"] == 2 })
	r.wantEmpty()
	r.want(exitTemporary, "lookup", "nobody@typo.example")
}

// TestCheckLiveEmptyDomain asks the directories themselves.
func TestCheckLiveEmptyDomain(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(r *rig)
		want  string // level:name; "!" in front means that there is none
		value string // that the finding names
	}{
		{"a typing error", func(r *rig) { r.enforce("copr.example") },
			"warning:empty-domain", "copr.example"},
		{"the domain beside it", func(r *rig) { r.enforce("copr.example") }, "!warning:empty-domain", "corp.example"},
		{"has addresses", func(*rig) {}, "ok:domain", "corp.example, such as "},
		{"a typing error, with another when_not_ready", func(r *rig) {
			r.enforce("copr.example")
			r.edit("removal_grace: 0s", "removal_grace: 0s\nwhen_not_ready: accept")
		}, "warning:empty-domain", "recipients there are accepted (when_not_ready: accept)"},
		{"a parent", func(r *rig) { r.enforce(".corp.example") }, "warning:empty-domain", ".corp.example"},
		{"a parent with a sub-domain", func(r *rig) {
			r.enforce(".corp.example")
			r.addUser("sub", "smtp:sub@a.corp.example")
		}, "!warning:empty-domain", ""},
		{"in mail only", func(r *rig) {
			r.enforce("mail.example")
			r.addAccount(map[string][]string{"mail": {"Svc@Mail.example"}})
		}, "ok:domain", "mail.example, such as svc@mail.example"},
		{"named by a list", func(r *rig) {
			r.enforce("list.example")
			r.edit("removal_grace: 0s", "removal_grace: 0s\naccept: [x@list.example]")
		}, "!warning:empty-domain", ""},
		{"in U-labels", func(r *rig) {
			r.enforce("münchen.example")
			r.addUser("uni", "smtp:uni@münchen.example")
		}, "!warning:empty-domain", ""},
		{"in an excluded subtree only", func(r *rig) {
			r.enforce("left.example")
			r.edit("poll: 100ms", "poll: 100ms\n    exclude: [\"OU=Leavers,"+base+"\"]")
			r.add(adsim.OU, "OU=Leavers,"+base, nil)
			r.add(adsim.User, "CN=eve,OU=Leavers,"+base, adsim.Attrs{"proxyAddresses": {"smtp:eve@left.example"}})
		}, "warning:empty-domain", "left.example"},
		{"beside an excluded subtree", func(r *rig) {
			r.edit("poll: 100ms", "poll: 100ms\n    exclude: [\"CN=Users,OU=x,"+base+"\"]")
		}, "ok:domain", "corp.example, such as jane"},
		{"of an omitted account only", func(r *rig) {
			r.enforce("left.example")
			r.edit("poll: 100ms", "poll: 100ms\n    disabled_accounts: omit")
			r.add(adsim.User, "CN=eve,CN=Users,"+base, adsim.Attrs{"proxyAddresses": {"smtp:eve@left.example"},
				"userAccountControl": {"514"}})
		}, "warning:empty-domain", "left.example"},
		{"of a value that cannot be used", func(r *rig) {
			r.enforce("star.example")
			r.addUser("star", "smtp:*@star.example")
		}, "warning:empty-domain", "star.example"},
		{"of a directory that is down", func(r *rig) { r.enforce("copr.example"); r.server.Down() },
			"!warning:empty-domain", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.make(r)
			all := r.findings(true)
			want, absent := strings.CutPrefix(c.want, "!")
			found := slices.ContainsFunc(named(all, want), func(f daemon.Finding) bool {
				return strings.Contains(f.Text, c.value)
			})
			if found == absent {
				t.Errorf("check --live finds %+v, want %s of %q", all, c.want, c.value)
			}
		})
	}
}

// TestLookupAtInEmptyDomain: whether the domain had an address then.
func TestLookupAtInEmptyDomain(t *testing.T) {
	r := newRig(t)
	r.edit("poll: 100ms", "poll: 1h")
	r.enforce("late.example")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	before := time.Now()
	r.addUser("ann", "smtp:ann@late.example")
	r.want(exitOK, "sync", "--wait")
	r.want(exitFailure, "lookup", "nobody@late.example")
	r.want(exitTemporary, "lookup", "nobody@late.example", "--at", before.Format(time.RFC3339Nano))
}

func TestConfigJudges(t *testing.T) {
	c := &config.Config{Domains: map[string]config.Mode{"a.test": config.Enforce, "b.test": config.Report,
		"c.test":  config.Pass,
		".d.test": config.Enforce, ".p.d.test": config.Pass, "r.p.d.test": config.Report}}
	for domain, want := range map[string]bool{"a.test": true, "b.test": true, "c.test": false, "d.test": false,
		"x.d.test":   true,
		"x.y.d.test": true, "x.p.d.test": false, "r.p.d.test": true, "other.test": false, "": false} {
		if got := c.Judges(domain); got != want {
			t.Errorf("Judges(%q) = %t, want %t", domain, got, want)
		}
	}
	for domain, want := range map[string]bool{"c.test": true, "x.p.d.test": true, "d.test": false,
		"other.test": false} {
		if got := c.HasEntry(domain); got != want {
			t.Errorf("HasEntry(%q) = %t, want %t", domain, got, want)
		}
	}
}
