package web

import (
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"rcpt-milter/control"
)

var (
	domainsTable = regexp.MustCompile(`(?s)<table class="domains">.*?</table>`)
	tableRow     = regexp.MustCompile(`(?s)<tr>.*?</tr>`)
	tableCell    = regexp.MustCompile(`(?s)<t[hd][^>]*>(.*?)</t[hd]>`)
)

// domainRows returns the cells of the table of domains on a page, separated by "|".
func domainRows(page string) (rows []string) {
	for _, row := range tableRow.FindAllString(domainsTable.FindString(page), -1) {
		var cells []string
		for _, cell := range tableCell.FindAllStringSubmatch(row, -1) {
			cells = append(cells, html.UnescapeString(strings.ReplaceAll(cell[1], gap, ",")))
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	return rows
}

// counts returns the counts of a domain by outcome.
func counts(accepted, refused, wouldRefuse, deferred int64) map[string]int64 {
	return map[string]int64{"accepted": accepted, "refused": refused, "report-only": wouldRefuse, "temporary": deferred}
}

// longDomain is as long as a domain of an address may be, without a place to break it.
var longDomain = strings.Repeat("x", 500) + ".example"

// TestPageOfDomains: the page has the counts of the busiest domains, and names none that it omits.
func TestPageOfDomains(t *testing.T) {
	const titles = "Domain|Mode|Addresses|Accepted|Refused|Would refuse|Deferred"
	few := control.Status{
		Modes: map[string]string{"a.test": "enforce", ".b.test": "report", "c.test": "pass",
			"xn--mnchen-3ya.test": "enforce"},
		Domains: map[string]int64{"a.test": 1200, "x.b.test": 3, "other.test": 2, `<b>&"'.test`: 1, longDomain: 1},
		DomainDecisions: map[string]map[string]int64{"a.test": counts(10, 2000, 0, 3),
			".b.test": counts(20, 0, 4000, 0), "c.test": counts(0, 0, 0, 0), "xn--mnchen-3ya.test": counts(1, 0, 0, 0)},
	}
	unjudged := few
	unjudged.DomainDecisions = nil
	many := control.Status{Modes: map[string]string{}, Domains: map[string]int64{},
		DomainDecisions: map[string]map[string]int64{}}
	for i := range 2000 {
		many.Modes[fmt.Sprintf("d%d.test", i)] = "enforce"
		many.DomainDecisions[fmt.Sprintf("d%d.test", i)] = counts(int64(i), 0, 0, 0)
		many.Domains[fmt.Sprintf("index%d.test", i)] = int64(i)
	}
	for _, c := range []struct {
		name    string
		s       control.Status
		rows    int // with the titles
		want    []string
		text    []string
		without []string
	}{
		{"few", few, 9, []string{titles, ".b.test|report||20|0|4,000|0", "a.test|enforce|1,200|10|2,000|0|3",
			"xn--mnchen-3ya.test|enforce|0|1|0|0|0", "c.test|pass|0|0|0|0|0", "x.b.test|report|3||||",
			"other.test|–|2||||",
			`<b>&"'.test|–|1||||`, longDomain + "|–|1||||"},
			[]string{"since the start of the daemon", `<th scope="row">a.test</th>`}, []string{"more of", "<b>&"}},
		{"no counts", unjudged, 9, []string{"Domain|Mode|Addresses", "a.test|enforce|1,200"}, nil,
			[]string{"Recipients since the start"}},
		{"none", control.Status{}, 1, []string{"Domain|Mode|Addresses"}, nil, []string{"Recipients since the start"}},
		{"many", many, 31, []string{titles, "d1999.test|enforce|0|1,999|0|0|0", "d1980.test|enforce|0|1,980|0|0|0",
			"index1990.test|–|1,990||||"}, []string{"And 1,980 more of the configuration.",
			"And 1,990 more of the index."},
			[]string{"d1979.test", "index1989.test"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(testPage(&fake{status: c.s}), http.MethodGet, "/", "localhost")
			page := strings.ReplaceAll(w.Body.String(), gap, ",")
			rows := domainRows(page)
			if w.Code != http.StatusOK || len(rows) != c.rows {
				t.Errorf("%d, and %d rows:\n%s", w.Code, len(rows), strings.Join(rows, "\n"))
			}
			for _, want := range c.want {
				if !strings.Contains("\n"+strings.Join(rows, "\n")+"\n", "\n"+want+"\n") {
					t.Errorf("no row %q in\n%s", want, strings.Join(rows, "\n"))
				}
			}
			for _, want := range c.text {
				if !strings.Contains(page, want) {
					t.Errorf("no %q in\n%s", want, page)
				}
			}
			for _, no := range c.without {
				if strings.Contains(page, no) {
					t.Errorf("%q in\n%s", no, page)
				}
			}
		})
	}
}

// TestPageOfSocketmap: lookups in the socketmap are no decisions. The page shows them, and says that the counts
// do not include them.
func TestPageOfSocketmap(t *testing.T) {
	counted := map[string]map[string]int64{"a.test": counts(0, 0, 0, 0)}
	for _, c := range []struct {
		name string
		s    control.Status
		want bool
	}{
		{"on", control.Status{Modes: map[string]string{"a.test": "enforce"}, DomainDecisions: counted,
			Socketmap: &control.SocketmapStatus{OK: 12345, NotFound: 67, Temp: 8, Perm: 2}}, true},
		{"off", control.Status{Modes: map[string]string{"a.test": "enforce"}, DomainDecisions: counted}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := ask(testPage(&fake{status: c.s}), http.MethodGet, "/", "localhost").Body.String()
			for _, text := range []string{"12" + gap + "345 found, 67 not found, 8 cannot tell",
				"2 requests were malformed", "socketmap are not included"} {
				if strings.Contains(page, text) != c.want {
					t.Errorf("%q: want %t in\n%s", text, c.want, page)
				}
			}
		})
	}
}

// TestTenantPageOfDomains: the page of a tenant has the counts of its domains, the busiest first.
func TestTenantPageOfDomains(t *testing.T) {
	const titles = "Domain|Accepted|Refused|Would refuse|Deferred"
	var many []control.TenantDomain
	for i := range 30 {
		many = append(many, control.TenantDomain{Domain: fmt.Sprintf("d%d.test", i),
			Decisions: counts(int64(i), 0, 0, 0)})
	}
	for _, c := range []struct {
		name    string
		domains []control.TenantDomain
		rows    []string // the first of them
		text    string
		without string
	}{
		{"some", []control.TenantDomain{{Domain: longDomain}, {Domain: `<b>&"'.test`, Decisions: counts(0, 0, 0, 0)},
			{Domain: "xn--mnchen-3ya.test", Decisions: counts(1000, 2, 3, 4)}},
			[]string{titles, "xn--mnchen-3ya.test|1,000|2|3|4", `<b>&"'.test|0|0|0|0`, longDomain + "||||"},
			"since the start of the daemon", "And "},
		{"counted with others only", []control.TenantDomain{{Domain: "a.shared.test"}}, nil,
			"are not counted here", "since the start"},
		{"many", many, []string{titles, "d29.test|29|0|0|0"}, "And 10 more.", "d9.test|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := tokenPage(secretFake(t), &tenants{t: t, status: control.TenantStatus{Domains: c.domains}})
			w := askWith(page, "/", tenantToken)
			rows := domainRows(w.Body.String())
			if w.Code != http.StatusOK || len(rows) < len(c.rows) || (c.rows == nil) != (rows == nil) {
				t.Fatalf("%d\n%s", w.Code, w.Body)
			}
			for i, want := range c.rows {
				if rows[i] != want {
					t.Errorf("row %q, want %q", rows[i], want)
				}
			}
			if body := w.Body.String(); !strings.Contains(body, c.text) || strings.Contains(body, c.without) ||
				strings.Contains(strings.Join(rows, "\n"), c.without) {
				t.Errorf("no %q, or %q, in\n%s", c.text, c.without, body)
			}
		})
	}
}
