package policy

import (
	"fmt"
	"strings"
	"testing"
)

// charges records charges and limits no network.
type charges struct{ made []string }

func (c *charges) Limited(Query) bool { return false }

func (c *charges) Charge(q Query, recipient string, unknown bool) {
	c.made = append(c.made, fmt.Sprintf("%s %s %t", q.Client, recipient, unknown))
}

func TestPolicyCharges(t *testing.T) {
	for recipient, want := range map[string]string{
		"Nobody@Enforce.Test":              "nobody@enforce.test true",
		"nobody+list=x@enforce.test":       "nobody@enforce.test true",
		`us"er@enforce.test`:               `us"er@enforce.test true`,
		"user@enforce.test":                "user@enforce.test false",
		"user+list@enforce.test":           "user@enforce.test false",
		"fresh@enforce.test":               "fresh@enforce.test false", // confirmed
		"extra@enforce.test":               "extra@enforce.test false", // in accept
		"filed@enforce.test":               "filed@enforce.test false", // in accept_files
		"anybody@sub.enforce.test":         "",                         // a whole domain in accept_files
		"srs0=x@enforce.test":              "",                         // a pattern
		"anybody@catchall.test":            "",                         // a whole domain
		"left@enforce.test":                "left@enforce.test true",   // in refuse
		"left+x@enforce.test":              "left@enforce.test true",
		"postmaster@enforce.test":          "",
		"gone@enforce.test":                "",                       // in grace
		"past@enforce.test":                "past@enforce.test true", // removed long ago
		"nobody@report.test":               "",
		"user@report.test":                 "",
		"nobody@foreign.test":              "",
		"nobody@notready.test":             "",
		"nobody@stale.test":                "",
		"staff@enforce.test":               "staff@enforce.test true", // restricted
		"broken@enforce.test":              "",                        // an error
		"198.51.100.7 nobody@enforce.test": "",                        // exempt
	} {
		t.Run(recipient, func(t *testing.T) {
			limit := &charges{}
			p := fullPolicy(t, func(cfg *Config) {
				cfg.Harvest, cfg.Domains["sub.enforce.test"] = limit, ModeEnforce
				cfg.AcceptFiles.(fakeTable)["@sub.enforce.test"] = 3
			})
			q, _ := fullQuery(t, recipient)
			d := p.Decide(t.Context(), q)
			if len(limit.made) > 0 {
				t.Errorf("Decide(%q) charges %q", recipient, limit.made)
			}
			p.Charge(q, d)
			if want != "" {
				want = q.Client.String() + " " + want
			}
			if got := strings.Join(limit.made, ", "); got != want {
				t.Errorf("Charge(%q), %s = %q, want %q", recipient, d.Verdict, got, want)
			}
		})
	}
	testPolicy(t, nil).Charge(Query{}, Decision{Mode: ModeEnforce, Verdict: VerdictUnknown}) // without a limit
}
