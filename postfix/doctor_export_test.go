package postfix

import (
	"slices"
	"strings"
	"testing"
)

// TestExportedTable: the table of export beside the milter is a problem, unless default_action makes it decide while
// no daemon runs. The daemon writes its source, so no advice changes that.
func TestExportedTable(t *testing.T) {
	const file = "/var/lib/rcpt-milter/list"
	accepts := func(s *scene) { s.set("smtpd_milters", "{ unix:rcpt-milter/milter.sock, default_action=accept }") }
	remove := []string{"postconf -e 'relay_recipient_maps ='"}
	tempfail := []string{"postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, default_action=tempfail }'"}
	for _, c := range []struct {
		name  string
		plant func(*scene)
		want  string
		fixes map[string][]string // by name of the finding
	}{
		{"beside the milter", func(*scene) {}, "old-table", map[string][]string{"old-table": remove}},
		{"beside the milter, and a domain in mode report", func(s *scene) { s.Domains["example.org"] = "report" },
			"(mode-report) old-table", map[string][]string{"old-table": remove}},
		{"while nothing is rejected", func(s *scene) {
			s.Domains = map[string]string{"example.com": "report", "example.org": "report"}
		}, "(mode-report) (old-table)", map[string][]string{"old-table": remove}},
		{"while no daemon runs", accepts, "(default-action) (old-table)", map[string][]string{"old-table": {},
			"default-action": {}}},
		{"while no daemon runs, and a domain in mode report", func(s *scene) {
			accepts(s)
			s.Domains["example.org"] = "report"
		}, "(mode-report) (default-action) (old-table)", map[string][]string{"old-table": {}, "default-action": {}}},
		{"while no daemon runs, for some domains only", func(s *scene) {
			accepts(s)
			s.set("mydestination", "example.org")
			s.set("relay_domains", "example.com")
			s.set("local_recipient_maps", "")
		}, "default-action old-table", map[string][]string{"old-table": remove, "default-action": tempfail}},
		{"while no daemon runs, for one of two listeners", func(s *scene) {
			accepts(s)
			s.override("smtp/inet", "smtpd_milters", "{ unix:rcpt-milter/milter.sock, default_action=tempfail }")
			s.Services = append(s.Services, *s.service("smtp/inet"))
			s.Services[len(s.Services)-1].Name, s.Services[len(s.Services)-1].Overrides = "2525", nil
		}, "(default-action) old-table", map[string][]string{"old-table": remove, "default-action": {}}},
		{"and another table", func(s *scene) {
			accepts(s)
			s.set("relay_recipient_maps", "lmdb:"+file+", hash:/etc/postfix/more")
			s.tables["hash:/etc/postfix/more"] = map[string]string{"ann@example.com": "x"}
		}, "(default-action) old-table", map[string][]string{"old-table": remove, "default-action": {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "debian")
			s.set("relay_recipient_maps", "lmdb:"+file)
			s.Export = file
			c.plant(s)
			got := s.examine()
			if summary(got) != c.want {
				t.Fatalf("found %q, want %q: %+v", summary(got), c.want, got)
			}
			for _, f := range got {
				if want, checked := c.fixes[f.Name]; checked && !slices.Equal(f.Fix, want) {
					t.Errorf("%s is fixed by %q, want %q", f.Name, f.Fix, want)
				}
				if f.Name == "old-table" && !strings.Contains(f.Why, "Until the next export, Postfix rejects new") {
					t.Errorf("%s because %q", f.What, f.Why)
				}
			}
		})
	}
}
