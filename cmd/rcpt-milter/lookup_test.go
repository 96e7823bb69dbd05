package main

import (
	"encoding/json"
	"strings"
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// lookup looks up one address, and returns the answer. It must end with the status.
func (r *rig) lookup(status int, args ...string) (answer control.LookupAnswer) {
	r.t.Helper()
	got, stdout, stderr := r.command(append([]string{"lookup", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || got != status {
		r.t.Fatalf("lookup %q: exit status %d, want %d, %v\n%s%s", args, got, status, err, stdout, stderr)
	}
	return answer
}

// TestLookupRows asks for recipients of the rows that depend on the configuration. The answers name
// the matching entry.
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
		"proxyAddresses":            {"smtp:staff@corp.example", "smtp:staff@report.example"},
		"msExchRequireAuthToSendTo": {"TRUE"},
	}); err != nil {
		t.Fatal(err)
	}
	r.serve()
	r.want(exitOK, "sync", "--wait")
	for _, c := range []struct {
		args    string
		status  int
		row     int
		verdict string
		entry   string // of the configuration
		matched string // form of the address
		owner   string // name of the object
		would   bool   // only mode report accepts it
	}{
		{"nobody@corp.example --client 198.51.100.9", exitOK, 1, "exempt", "198.51.100.0/24", "", "", false},
		{"nobody@corp.example --client ::ffff:198.51.100.9", exitOK, 1, "exempt", "198.51.100.0/24", "", "", false},
		{"nobody@corp.example --client 192.0.2.1", exitFailure, 12, "unknown", "", "", "", false},
		{"Extra@corp.example", exitOK, 5, "allowlisted", "", "extra@corp.example", "", false},
		{"extra+x@corp.example", exitOK, 5, "allowlisted", "", "extra@corp.example", "", false},
		{"anybody@catchall.corp.example", exitOK, 5, "allowlisted", "@catchall.corp.example", "", "", false},
		{"SRS0=a=b@corp.example", exitOK, 5, "allowlisted", `srs0=.*@corp\.example`, "srs0=a=b@corp.example",
			"", false},
		{"left@corp.example", exitFailure, 5, "denylisted", "", "left@corp.example", "left", false},
		{"left+x@corp.example", exitFailure, 5, "denylisted", "", "left@corp.example", "left", false},
		{"left@report.example", exitOK, 6, "known", "", "left@report.example", "left", false},
		{"jane+news@corp.example", exitOK, 6, "known", "", "jane@corp.example", "jane", false},
		{"staff@corp.example", exitFailure, 6, "restricted", "", "staff@corp.example", "staff", false},
		{"staff+x@corp.example", exitFailure, 6, "restricted", "", "staff@corp.example", "staff", false},
		{"staff@report.example", exitOK, 6, "restricted", "", "staff@report.example", "staff", true},
		{"staff+x@corp.example --authenticated", exitOK, 6, "known", "", "staff@corp.example", "staff", false},
	} {
		t.Run(c.args, func(t *testing.T) {
			got := r.lookup(c.status, strings.Fields(c.args)...)
			if got.Rule != c.row || got.Verdict != c.verdict || got.Entry != c.entry || got.Matched != c.matched ||
				got.WouldRefuse != c.would || c.would && !strings.HasPrefix(got.WouldReply, "550 5.1.1 ") {
				t.Errorf("answer %+v, want %+v", got, c)
			}
			if c.status == exitFailure && !strings.HasPrefix(got.Reply, "550 5.1.1 <"+got.Address+">: ") {
				t.Errorf("reply %q", got.Reply)
			}
			if c.owner == "" {
				if len(got.Owners) > 0 {
					t.Errorf("owners %+v, want none", got.Owners)
				}
				return
			}
			if len(got.Owners) != 1 {
				t.Fatalf("owners %+v, want one", got.Owners)
			}
			o := got.Owners[0]
			if o.DN != "CN="+c.owner+",CN=Users,"+base || o.Attribute != "proxyAddresses" || o.Directory != "corp" ||
				o.InternalOnly != (c.owner == "staff") {
				t.Errorf("owner %+v", o)
			}
		})
	}
}
