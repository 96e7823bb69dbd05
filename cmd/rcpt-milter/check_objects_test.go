package main

import (
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// limit adds keys to the directory of the configuration.
func (r *rig) limit(keys string) { r.edit("poll: 100ms", "poll: 100ms\n    "+keys) }

// TestCheckObjects: check --live names what a full pass would meet.
func TestCheckObjects(t *testing.T) {
	const folders = "CN=Microsoft Exchange System Objects," + base
	folder := func(r *rig, name string) {
		r.add(adsim.PublicFolder, "CN="+name+","+folders, adsim.Attrs{"proxyAddresses": {"smtp:" + name + "@corp.example"}})
	}
	outside := func(r *rig, name, address string) {
		r.add(adsim.User, "CN="+name+",OU=Berlin,"+base, adsim.Attrs{"proxyAddresses": {"smtp:" + address}})
	}
	for _, c := range []struct {
		what   string
		make   func(r *rig)
		status int
		want   []string // in the output, in this order; "!" in front: not in it
	}{
		{"well", func(*rig) {}, exitOK, []string{"objects looked at, all addresses can be read", "!to be corrected",
			"!outside bases"}},
		{"values", func(r *rig) {
			r.addUser("ann", "smtp:ann@corp.example", "a.smith@corp.example", "smtp:an\u200bn@corp.example")
			r.add(adsim.Contact, "CN=bob,CN=Users,"+base, adsim.Attrs{"mail": {"mailto:bob@corp.example"}})
		}, exitOK, []string{
			"value to be corrected: CN=ann,CN=Users,DC=corp,DC=example: proxyAddresses a.smith@corp.example: it has no " +
				"address type",
			`value to be corrected: CN=ann,CN=Users,DC=corp,DC=example: proxyAddresses smtp:an\u200bn@corp.example: it contains the invisible character U+200B`,
			"value to be corrected: CN=bob,CN=Users,DC=corp,DC=example: mail mailto:bob@corp.example: mailto: begins a URL",
			"!all addresses can be read"}},
		{"many values", func(r *rig) {
			for i := range 25 {
				r.addUser(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
			}
		}, exitOK, []string{"CN=u0,", "CN=u19,", "5 more values are to be corrected", "!CN=u20,"}},
		{"values outside the bases are not ours", func(r *rig) {
			r.addUser("ann", "a.smith@corp.example")
			r.limit(`exclude: ["CN=Users,DC=corp,DC=example"]`)
		}, exitOK, []string{"!to be corrected"}},
		{"hidden uSNChanged of some", func(r *rig) {
			r.ad.HideOf(r.addUser("ann", "smtp:ann@corp.example"), "uSNChanged")
			r.ad.HideOf(r.addUser("bob"), "uSNChanged")
		}, exitFailure, []string{"2 objects hide uSNChanged from svc-mail@corp.example",
			"give it the right to read uSNChanged in CN=Users,DC=corp,DC=example (2, such as " +
				"CN=ann,CN=Users,DC=corp,DC=example)",
			"CN=ann,CN=Users,DC=corp,DC=example; CN=bob,CN=Users,DC=corp,DC=example"}},
		{"public folders outside the bases", func(r *rig) {
			folder(r, "news")
			folder(r, "offers")
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "eve", "eve@corp.example")
			outside(r, "max", "max@sub.corp.example")
			outside(r, "joe", "joe@pass.example")
			r.limit(`bases: ["CN=Users,DC=corp,DC=example"]`)
			r.edit("  report.example: report", "  report.example: report\n  .corp.example: report\n  pass.example: pass")
		}, exitOK, []string{"warning: directory corp: ",
			"2 public folders with addresses of our domains lie outside bases, and would be refused: " + folders +
				" (2, such as news@corp.example)",
			"2 recipients of our domains lie outside bases, and would be refused: OU=Berlin,DC=corp,DC=example (2, such as " +
				"eve@corp.example)", "!joe@"}},
		{"outside the bases, and known inside", func(r *rig) {
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "jane", "jane@corp.example")
			r.limit(`bases: ["CN=Users,DC=corp,DC=example"]`)
		}, exitOK, []string{"!outside bases"}},
		{"outside the bases in a domain of another", func(r *rig) {
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "eve", "eve@report.example")
			r.limit("bases: [\"CN=Users,DC=corp,DC=example\"]\n    domains: [corp.example]")
			r.edit("  report.example: report", "  report.example: pass")
		}, exitOK, []string{"!outside bases"}},
		{"excluded", func(r *rig) {
			r.add(adsim.OU, "OU=Berlin,"+base, nil)
			outside(r, "eve", "eve@corp.example")
			r.limit(`exclude: ["OU=Berlin,DC=corp,DC=example"]`)
		}, exitOK, []string{"ok: directory corp: ", "1 recipient of our domains is left out by exclude: " +
			"OU=Berlin,DC=corp,DC=example (1, such as eve@corp.example)", "!outside bases"}},
		{"an exclude that is not there", func(r *rig) { r.limit(`exclude: ["OU=Berlim,DC=corp,DC=example"]`) }, exitOK,
			[]string{"warning: directory corp: ", "there is no OU=Berlim,DC=corp,DC=example, or svc-mail@corp.example may not " +
				"see it, so it excludes nothing; correct exclude"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRig(t)
			c.make(r)
			out := r.want(c.status, "check", "--live")
			rest := out
			for _, want := range c.want {
				if absent, no := strings.CutPrefix(want, "!"); no {
					if strings.Contains(out, absent) {
						t.Errorf("check --live says\n%swant no %q", out, absent)
					}
					continue
				}
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Errorf("check --live says\n%swant %q", out, want)
					continue
				}
				rest = after
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
