package main

import (
	"encoding/json"
	"strings"
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// TestLookupRows asks for recipients of the rows that the configuration makes, and the
// answers say what of it matched.
func TestLookupRows(t *testing.T) {
	r := newRig(t,
		`accept: ["@catchall.corp.example", extra@corp.example]`,
		`accept_patterns: ['srs0=.*@corp\.example']`,
		`refuse: [left@corp.example]`,
		`recipient_delimiter: "+"`,
		`exempt: {networks: [198.51.100.0/24]}`,
	)
	r.edit("  report.example: report\n", "  report.example: report\n  catchall.corp.example: enforce\n")
	r.edit("    poll: 100ms\n", "    poll: 100ms\n    internal_only: refuse\n")
	r.addUser("left", "smtp:left@corp.example", "smtp:left@report.example")
	if _, err := r.ad.Add(adsim.Group, "CN=staff,CN=Users,"+base, adsim.Attrs{
		"proxyAddresses": {"smtp:staff@corp.example", "smtp:staff@report.example"}, "msExchRequireAuthToSendTo": {"TRUE"},
	}); err != nil {
		t.Fatal(err)
	}
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	for _, c := range []struct {
		args   string
		status int
		want   []string
	}{
		{"nobody@corp.example --client 198.51.100.9", exitOK,
			[]string{"the client is exempt: 198.51.100.0/24 (verdict exempt, row 1)"}},
		{"nobody@corp.example --client ::ffff:198.51.100.9", exitOK, []string{"(verdict exempt, row 1)"}},
		{"nobody@corp.example --client 192.0.2.1", exitFailure, []string{"not in the index (verdict unknown, row 12)"}},
		{"Extra@corp.example", exitOK, []string{"in accept (verdict allowlisted, row 5)"}},
		{"extra+x@corp.example", exitOK, []string{"in accept (verdict allowlisted, row 5)",
			"found as            extra@corp.example, without the extension"}},
		{"anybody@catchall.corp.example", exitOK, []string{"the domain is in accept: @catchall.corp.example (verdict " +
			"allowlisted, row 5)"}},
		{"SRS0=a=b@corp.example", exitOK, []string{`matches accept_patterns: srs0=.*@corp\.example (verdict allowlisted, row 5)`}},
		{"left@corp.example", exitFailure, []string{"in refuse (verdict denylisted, row 5)", "CN=left,CN=Users,"}},
		{"left+x@corp.example", exitFailure, []string{"550 5.1.1 <left+x@corp.example>: ",
			"found as            left@corp.example, without", "CN=left,CN=Users,"}},
		{"left@report.example", exitOK, []string{"in the index (verdict known, row 6)"}},
		{"jane+news@corp.example", exitOK, []string{"in the index (verdict known, row 6)",
			"found as            jane@corp.example, without", "CN=jane,CN=Users,",
			"user, attribute proxyAddresses, directory corp"}},
		{"staff@corp.example", exitFailure, []string{
			"550 5.1.1 <staff@corp.example>: Recipient address rejected: User unknown",
			"takes mail from inside senders only (verdict restricted, row 6)", "corp is fresh", "CN=staff,CN=Users,",
		}},
		{"staff+x@corp.example", exitFailure, []string{"(verdict restricted, row 6)", "CN=staff,CN=Users,"}},
		{"staff@report.example", exitOK, []string{"in mode enforce it would be 550 5.1.1", "(verdict restricted, row 6)"}},
		{"staff+x@corp.example --authenticated", exitOK, []string{"in the index (verdict known, row 6)",
			"internal-only: accepts mail from inside senders only"}},
	} {
		out := r.want(c.status, append([]string{"lookup"}, strings.Fields(c.args)...)...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("lookup %s has no %q:\n%s", c.args, want, out)
			}
		}
	}
	var answer control.LookupAnswer
	if err := json.Unmarshal([]byte(r.want(exitFailure, "lookup", "left+x@corp.example", "--json")), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Verdict != "denylisted" || answer.Rule != 5 || answer.Canonical != "left+x@corp.example" ||
		answer.Matched != "left@corp.example" || len(answer.Owners) != 1 || answer.Owners[0].Attribute != "proxyAddresses" {
		t.Errorf("lookup --json gives %+v", answer)
	}
	d.stop()
}
