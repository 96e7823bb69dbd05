package config

import (
	"errors"
	"testing"
)

// TestSuspicious: values that are valid and have a consequence that few want.
func TestSuspicious(t *testing.T) {
	const one = "[ldaps://dc1.corp.example]"
	g := openGolden(t, "warnings-directories.txt")
	for _, c := range []struct {
		urls, more string
		warns      bool
	}{
		{"[ldaps://dc1.corp.example, ldaps://dc2.corp.example]", "", false},
		{"[ldaps://dc1.corp.example:3269, ldap://dc2.corp.example:3268]", "", false},
		{one, "    poll: 4m\n", false},
		{one, "    poll: 5m\n", true},
		{one, "    poll: 1h\n", true},
		{one, "    poll: 1h\nlate_after: 2h\nstale_after: 4h\n", false},
		{one, "late_after: 1s\n", true},
		{one, "limits: {idle: 30m}\n", false},
		{one, "limits: {idle: 29m}\n", true},
		{one, "confirm: {timeout: 9s}\n", false},
		{one, "confirm: {timeout: 4900ms}\nrecipient_delimiter: +\n", false},
		{one, "confirm: {timeout: 5s}\nrecipient_delimiter: +\n", true},
		{one, "confirm: {timeout: 5s, enabled: false}\nrecipient_delimiter: +\n", false},
		{one, "confirm: {timeout: 2s}\nrecipient_delimiter: +\nstrip_prefixes: [prvs=]\n", false},
		{one, "confirm: {timeout: 3s}\ndomain_aliases: {example.com: a.example}\n" +
			"recipient_delimiter: +\n", true},
		{`[ldaps://dc1.corp.example, "ldaps://dc2.corp.example:3269"]`, "", true},
		{`["ldap://dc1.corp.example:3268", ldaps://dc2.corp.example]`, "", true},
	} {
		g.run(t, c.urls+"\n"+c.more, func(t *testing.T) string {
			got, err := Parse("config.yaml", []byte("domains:\n  example.com: enforce\ndirectories:\n"+
				"  - name: corp\n    urls: "+c.urls+
				"\n    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n"+c.more))
			if err != nil || (len(got.Warnings()) > 0) != c.warns {
				t.Fatalf("Parse: %v, expected a warning: %v", err, c.warns)
			}
			if !c.warns {
				return ""
			}
			return errors.Join(got.Warnings()...).Error()
		})
	}
}

// TestPageListener: only what not every account of this host can read is served, and the page is
// beside the control socket unless page.listen says otherwise.
func TestPageListener(t *testing.T) {
	const tokens = "tokens: /etc/rcpt-milter/tokens"
	for _, c := range []struct {
		text, listen string
		shown, warns bool
	}{
		{"", "unix:/run/rcpt-milter/page.sock", true, false},
		{"control: unix:/run/other/c.sock", "unix:/run/other/page.sock", true, false},
		{"control: unix:/run/other/c.sock\npage: {serve: never}", "unix:/run/other/page.sock", false, false},
		{"page: {serve: always}", "unix:/run/rcpt-milter/page.sock", true, true},
		{`page: {listen: ""}`, "", false, false},
		{"page: {listen: }", "", false, false},
		{"page: {listen: unix:/run/p}", "unix:/run/p", true, false},
		{"page: {listen: inet:127.0.0.1:9418, " + tokens + "}", "inet:127.0.0.1:9418", true, false},
		{"page: {listen: inet:0.0.0.0:9418, serve: always, " + tokens + "}", "inet:0.0.0.0:9418", true, false},
		{"page: {listen: inet:0.0.0.0:9418, serve: never, " + tokens + "}", "inet:0.0.0.0:9418", false, false},
		{"metrics: inet:0.0.0.0:9417", "unix:/run/rcpt-milter/page.sock", true, false},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := Parse("config.yaml", []byte(c.text+"\ndomains:\n  example.com: enforce\ndirectories:\n"+
				"  - name: corp\n    urls: [ldaps://dc1.corp.example]\n"+
				"    bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Page.Listen.String() != c.listen || got.ShowsPage() != c.shown ||
				(len(got.Warnings()) > 0) != c.warns {
				t.Errorf("page.listen is %q, shown %t, warnings %v", got.Page.Listen, got.ShowsPage(), got.Warnings())
			}
		})
	}
}
