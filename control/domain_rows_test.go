package control

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// accepted returns the counts of a domain.
func accepted(n int64) map[string]int64 {
	return map[string]int64{"accepted": n, "refused": 0, "temporary": 0, "report-only": 0}
}

// names returns the domains of rows.
func names(rows []DomainRow) (all []string) {
	for _, r := range rows {
		all = append(all, r.Domain)
	}
	return all
}

func TestDomainRows(t *testing.T) {
	s := Status{
		Modes: map[string]string{"quiet.test": "enforce", ".sub.test": "report", "busy.test": "enforce",
			"a.test": "pass", "later.test": "enforce"},
		Domains: map[string]int64{"quiet.test": 9, "x.sub.test": 3, "large.test": 70, "small.test": 3},
		DomainDecisions: map[string]map[string]int64{
			"busy.test": {"accepted": 5, "refused": 4, "temporary": 3, "report-only": 2, "of-a-later-version": 9},
			".sub.test": {"report-only": 13}, "a.test": accepted(0), "quiet.test": accepted(0),
			"removed.test": accepted(99),
		},
	}
	want := []DomainRow{
		{Domain: "busy.test", Mode: "enforce", Configured: true,
			Judged: &Judged{Accepted: 5, Refused: 4, Deferred: 3, ReportOnly: 2}},
		{Domain: ".sub.test", Mode: "report", Pattern: true, Configured: true, Judged: &Judged{ReportOnly: 13}},
		{Domain: "a.test", Mode: "pass", Configured: true, Judged: &Judged{}},
		{Domain: "quiet.test", Mode: "enforce", Addresses: 9, Configured: true, Judged: &Judged{}},
		{Domain: "later.test", Mode: "enforce", Configured: true},
		{Domain: "large.test", Addresses: 70},
		{Domain: "small.test", Addresses: 3},
		{Domain: "x.sub.test", Mode: "report", Addresses: 3},
	}
	if diff := cmp.Diff(want, s.DomainRows()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDomainSummary(t *testing.T) {
	many := Status{Modes: map[string]string{}, Domains: map[string]int64{},
		DomainDecisions: map[string]map[string]int64{}}
	for i := range 30 {
		domain := fmt.Sprintf("d%02d.test", i)
		many.Modes[domain], many.DomainDecisions[domain] = "enforce", accepted(int64(i))
		many.Domains[fmt.Sprintf("index%02d.test", i)] = int64(i)
	}
	uncounted := Status{Modes: map[string]string{"a.test": "enforce"}, Domains: map[string]int64{"b.test": 1}}
	for _, c := range []struct {
		name             string
		s                Status
		rows             int
		more, moreOthers int
		counted          bool
		first            string
	}{
		{"none", Status{}, 0, 0, 0, false, ""},
		{"not counted", uncounted, 2, 0, 0, false, "a.test"},
		{"many", many, shownDomains + shownOthers, 10, 20, true, "d29.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.s.DomainSummary()
			if len(got.Rows) != c.rows || got.More != c.more || got.MoreOthers != c.moreOthers ||
				got.Counted != c.counted || c.first != "" && got.Rows[0].Domain != c.first {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestTenantDomainSummary(t *testing.T) {
	shared := TenantDomain{Domain: "a.shared.test", Mode: "enforce"}
	quiet := TenantDomain{Domain: "quiet.test", Mode: "enforce", Decisions: accepted(0)}
	busy := TenantDomain{Domain: ".busy.test", Mode: "report", Decisions: accepted(7)}
	var many []TenantDomain
	for range shownDomains {
		many = append(many, busy)
	}
	for _, c := range []struct {
		name    string
		domains []TenantDomain
		want    []string
		more    int
		counted bool
	}{
		{"none", nil, nil, 0, false},
		{"counted with others only", []TenantDomain{shared}, []string{"a.shared.test"}, 0, false},
		{"some", []TenantDomain{shared, quiet, busy}, []string{".busy.test", "quiet.test", "a.shared.test"}, 0, true},
		{"many", append(many, quiet, shared), slices.Repeat([]string{".busy.test"}, shownDomains), 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := TenantStatus{Domains: c.domains}.DomainSummary()
			if diff := cmp.Diff(c.want, names(got.Rows)); diff != "" || got.More != c.more ||
				got.Counted != c.counted || got.MoreOthers != 0 {
				t.Errorf("%+v\n-want +got:\n%s", got, diff)
			}
		})
	}
}
