package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/daemon"
	"rcpt-milter/testenv/adsim"
)

// limit adds keys to the directory of the configuration.
func (r *rig) limit(keys string) { r.edit("poll: 100ms", "poll: 100ms\n    "+keys) }

// TestCheckObjects: check --live names what a full pass would meet.
func TestCheckObjects(t *testing.T) {
	const folders = "CN=Microsoft Exchange System Objects," + base
	folder := func(r *rig, name string) {
		r.add(adsim.PublicFolder, "CN="+name+","+folders,
			adsim.Attrs{"proxyAddresses": {"smtp:" + name + "@corp.example"}})
	}
	outside := func(r *rig, name, address string) {
		r.add(adsim.User, "CN="+name+",OU=Berlin,"+base, adsim.Attrs{"proxyAddresses": {"smtp:" + address}})
	}
	for _, c := range []struct {
		name string
		make func(r *rig)
		want []string // level:name of findings and a value that each names, separated by a blank, in this order
		not  string   // in no finding, level:name or text
	}{
		{"well", func(*rig) {}, []string{"ok:objects "}, "-outside"},
		{"values", func(r *rig) {
			r.addUser("ann", "smtp:ann@corp.example", "a.smith@corp.example", "smtp:an\u200bn@corp.example")
			r.add(adsim.Contact, "CN=bob,CN=Users,"+base, adsim.Attrs{"mail": {"mailto:bob@corp.example"}})
		}, []string{
			"warning:value-unusable CN=ann,CN=Users,DC=corp,DC=example: proxyAddresses a.smith@corp.example:",
			"warning:value-unusable CN=ann,CN=Users,DC=corp,DC=example: proxyAddresses smtp:an\u200bn@corp.example:",
			"warning:value-unusable CN=bob,CN=Users,DC=corp,DC=example: mail mailto:bob@corp.example:"}, "ok:objects"},
		{"many values", func(r *rig) {
			for i := range 25 {
				r.addUser(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
		}, []string{"warning:value-unusable CN=u0,", "warning:value-unusable CN=u19,",
			"warning:value-unusable : 5 more"}, "CN=u20,"},
		{"values outside the bases are not ours", func(r *rig) {
			r.addUser("ann", "a.smith@corp.example")
			r.limit(`exclude: ["CN=Users,DC=corp,DC=example"]`)
		}, []string{"ok:objects "}, "a.smith@"},
		{"hidden uSNChanged of some", func(r *rig) {
			r.ad.HideOf(r.addUser("ann", "smtp:ann@corp.example"), "uSNChanged")
			r.ad.HideOf(r.addUser("bob"), "uSNChanged")
		},
			[]string{"problem:usn-hidden in CN=Users,DC=corp,DC=example (2, such as " +
				"CN=ann,CN=Users,DC=corp,DC=example): CN=ann,CN=Users,DC=corp,DC=example; " +
				"CN=bob,CN=Users,DC=corp,DC=example"}, "ok:objects"},
		{"public folders outside the bases", func(r *rig) {
			folder(r, "news")
			folder(r, "offers")
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "eve", "eve@corp.example")
			outside(r, "max", "max@sub.corp.example")
			outside(r, "joe", "joe@pass.example")
			r.limit(`bases: ["CN=Users,DC=corp,DC=example"]`)
			r.edit("  report.example: report",
				"  report.example: report\n  .corp.example: report\n  pass.example: pass")
		}, []string{"warning:folders-outside " + folders + " (2, such as news@corp.example)",
			"warning:recipients-outside OU=Berlin,DC=corp,DC=example (2, such as eve@corp.example)"}, "joe@"},
		{"outside the bases, in the target of a domain alias", func(r *rig) {
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "eve", "eve@corp.local")
			r.limit(`bases: ["CN=Users,DC=corp,DC=example"]`)
			r.edit("removal_grace: 0s", "removal_grace: 0s\ndomain_aliases: {report.example: corp.local}")
		}, []string{"warning:recipients-outside OU=Berlin,DC=corp,DC=example (1, such as eve@corp.local)"},
			"folders-outside"},
		{"outside the bases, and known inside", func(r *rig) {
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "jane", "jane@corp.example")
			r.limit(`bases: ["CN=Users,DC=corp,DC=example"]`)
		}, nil, "-outside"},
		{"outside the bases in a domain of another", func(r *rig) {
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "eve", "eve@report.example")
			r.limit("bases: [\"CN=Users,DC=corp,DC=example\"]\n    domains: [corp.example]")
			r.edit("  report.example: report", "  report.example: pass")
		}, nil, "-outside"},
		{"excluded", func(r *rig) {
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "eve", "eve@corp.example")
			r.limit(`exclude: ["OU=Berlin,DC=corp,DC=example"]`)
		}, []string{"ok:recipients-excluded OU=Berlin,DC=corp,DC=example (1, such as eve@corp.example)"}, "-outside"},
		{"an exclude that is not there", func(r *rig) { r.limit(`exclude: ["OU=Berlim,DC=corp,DC=example"]`) },
			[]string{"warning:exclude-missing OU=Berlim,DC=corp,DC=example"}, "-outside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.make(r)
			all := r.findings(true)
			rest := all
			for _, want := range c.want {
				levelName, value, _ := strings.Cut(want, " ")
				at := slices.IndexFunc(rest, func(f daemon.Finding) bool {
					return f.Level.String()+":"+f.Name == levelName && strings.Contains(f.Text, value)
				})
				if at < 0 {
					t.Fatalf("check --live finds %+v, want %q", all, want)
				}
				rest = rest[at+1:]
			}
			if slices.ContainsFunc(all, func(f daemon.Finding) bool {
				return strings.Contains(f.Level.String()+":"+f.Name+" "+f.Text, c.not)
			}) {
				t.Errorf("check --live finds %+v, want no %q", all, c.not)
			}
		})
	}
}

// TestUnparsedInStatus: the daemon names what cannot be used, as does its store once it
// is stopped, until it is corrected.
func TestUnparsedInStatus(t *testing.T) {
	r := newRig(t)
	ann := r.addUser("ann", "smtp:ann@corp.example", "a.smith@corp.example")
	d := r.serve()
	r.want(exitOK, "sync", "--full", "--wait")
	want := func(n int) {
		t.Helper()
		s := r.status()
		if s.Unparsed != int64(n) || len(s.UnparsedValues) != n {
			t.Fatalf("status counts %d values and names %+v, want %d", s.Unparsed, s.UnparsedValues, n)
		}
		if n == 0 {
			return
		}
		v := s.UnparsedValues[0]
		if v.Directory != "corp" || v.DN != "CN=ann,CN=Users,"+base || v.Attribute != "proxyAddresses" ||
			v.Value != "a.smith@corp.example" || v.Reason == "" {
			t.Errorf("status names %+v", v)
		}
		if _, text, _ := r.command("status"); !strings.Contains(text,
			"CN=ann,CN=Users,"+base+": proxyAddresses a.smith@corp.example: it has no address type") {
			t.Errorf("status says\n%s", text)
		}
	}
	want(1)
	d.stop()
	want(1)
	d = r.serve()
	want(1)
	if err := r.ad.Modify(ann, adsim.Set("proxyAddresses", "smtp:ann@corp.example",
		"smtp:a.smith@corp.example")); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait")
	want(0)
	d.stop()
}
