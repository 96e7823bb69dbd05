package console

import (
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
)

// domainsStatus has more domains than a table shows. Their names have unusual forms.
func domainsStatus() control.Status {
	s := control.Status{Version: writer.Version, State: control.Fresh, Modes: map[string]string{},
		Domains: map[string]int64{}, DomainDecisions: map[string]map[string]int64{},
		Decisions: map[string]int64{"known": 12_357_678}}
	add := func(domain string, addresses, accepted int64) {
		s.Modes[domain], s.Domains[domain] = "enforce", addresses
		s.DomainDecisions[domain] = map[string]int64{"accepted": accepted, "refused": 2 * accepted, "temporary": 1}
	}
	add("xn--mnchen-3ya.example", 1200, 12_345_678)
	add("x\x1b[31m\u202e\r\nState: fresh.example", 3, 5000)
	add(strings.Repeat("a-long-label.", 40)+"example", 1, 4000)
	add("[192.0.2.1]", 0, 3000)
	for i := range 1200 {
		add(fmt.Sprintf("d%04d.example", i), int64(i), 0)
		s.Domains[fmt.Sprintf("index%04d.example", i)] = int64(i)
	}
	return s
}

// TestDomainTable: the table shows the domains that are counted, in one table if the terminal has room.
func TestDomainTable(t *testing.T) {
	const title = "Domain   "
	without := func(change func(*control.Status)) control.Status {
		s := freshStatus()
		change(&s)
		return s
	}
	for _, c := range []struct {
		name    string
		s       control.Status
		page    terminal.Page
		tables  int
		want    []string
		without []string
	}{
		{"no terminal", freshStatus(), terminal.Page{}, 1, []string{"Deferred", "since the start", "socketmap are not"},
			[]string{"and "}},
		{"no socketmap", without(func(s *control.Status) { s.Socketmap = nil }), terminal.Page{}, 1, nil,
			[]string{"socketmap"}},
		{"wide", freshStatus(), terminal.Page{Width: 100, Narrow: true}, 1, []string{"corp.mail.onmicrosoft.com"}, nil},
		{"narrow", freshStatus(), terminal.Page{Width: 80, Narrow: true}, 2,
			[]string{"corp.mail.onmicrosoft.com", "example.com      98,000"}, nil},
		{"phone", freshStatus(), terminal.Page{Width: 40, Narrow: true}, 2, []string{"…"}, nil},
		{"stopped daemon", without(func(s *control.Status) { s.Offline, s.DomainDecisions = true, nil }),
			terminal.Page{Width: 80}, 1, nil, []string{"Accepted", "Deferred", "since the start"}},
		{"no decision", without(func(s *control.Status) {
			s.DomainDecisions = map[string]map[string]int64{"new.example": {"accepted": 0, "refused": 0}}
		}), terminal.Page{}, 1, []string{"new.example                 pass              0          0"}, nil},
		{"only the index has more", without(func(s *control.Status) {
			for i := range 1234 {
				s.Domains[fmt.Sprint(i, ".example")] = 2
			}
		}), terminal.Page{}, 1, []string{"and 1,226 more of the index;"}, []string{"of the configuration"}},
		{"no domain", control.Status{}, terminal.Page{}, 0, nil, []string{"since the start"}},
		{"many", domainsStatus(), terminal.Page{Width: 80}, 2, []string{"and 1,184 more of the configuration",
			"1,190 more of the index", "xn--mnchen-3ya.example"}, []string{"\x1b", "\u202e"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.page
			domainTable(&p, c.s)
			got := p.String()
			if n := strings.Count(got, title); n != c.tables {
				t.Errorf("%d tables, want %d", n, c.tables)
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q", want)
				}
			}
			for _, no := range c.without {
				if strings.Contains(got, no) {
					t.Errorf("%q", no)
				}
			}
			if t.Failed() {
				t.Log(got)
			}
		})
	}
}
