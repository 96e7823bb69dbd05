package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/config"
	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// exported returns the list of recipients of a configuration and a store, an entry a line:
// address, source, and "restricted".
func exported(t *testing.T, c *config.Config, s *store.Store, q control.ExportQuery) (head control.ExportHead,
	list []string) {
	t.Helper()
	e := newTestExporter(t, c, s, q)
	e.tell = func(event control.ExportEvent) error {
		if event.Head != nil {
			head = *event.Head
		}
		for _, r := range event.Recipients {
			line := r.Address + " " + r.Source
			if r.Restricted {
				line += " restricted"
			}
			list = append(list, line)
		}
		return nil
	}
	if err := e.run(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	return head, list
}

func newTestExporter(t *testing.T, c *config.Config, s *store.Store, q control.ExportQuery) exporter {
	t.Helper()
	files := tables.NewFiles(tables.Config{})
	prepared, err := files.Prepare(c.AcceptFiles)
	if err != nil {
		t.Fatal(err)
	}
	files.Use(prepared)
	policy, err := newPolicy(c, index{store: s}, files, queryChecks{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	e := exporter{version: "test", config: c, store: s, files: files.Snapshot(), policy: policy, query: q,
		directories: []control.ExportDirectory{{Name: "corp", State: control.Fresh}}}
	if q.Open {
		e.findOpen(domainsWithoutAddress(c, nil, s.HasDomain, s.HasDomainBelow), func(string) bool { return true },
			fileAges{files, c.AcceptFilesMaxAge, func() time.Time { return noon }})
	}
	return e
}

func TestExporter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay_recipients")
	entries := "filed@corp.example OK\njane@corp.example OK\n@alias.example @corp.example\n"
	if err := os.WriteFile(file, []byte(entries), 0o600); err != nil {
		t.Fatal(err)
	}
	enforced := map[string]config.Mode{"corp.example": config.Enforce, "report.example": config.Report}
	for _, c := range []struct {
		name   string
		config config.Config
		query  control.ExportQuery
		want   []string
	}{
		{"index only", config.Config{Domains: enforced}, control.ExportQuery{},
			[]string{"inside@corp.example index restricted", "jane@corp.example index", "jim@report.example index"}},
		{"domains that are not judged", config.Config{Domains: enforced}, control.ExportQuery{All: true},
			[]string{"inside@corp.example index restricted", "jane@corp.example index", "jim@report.example index",
				"x@elsewhere.example index"}},
		{"accept list", config.Config{Domains: enforced, Accept: []string{"jane@corp.example", "listed@corp.example",
			"@report.example"}},
			control.ExportQuery{}, []string{"inside@corp.example index restricted", "jane@corp.example index",
				"jim@report.example index",
				"listed@corp.example accept", "@report.example accept"}},
		{"always accept", config.Config{Domains: enforced, AlwaysAccept: []string{"postmaster", "jane"}},
			control.ExportQuery{},
			[]string{"inside@corp.example index restricted", "jane@corp.example index", "jim@report.example index",
				"postmaster@corp.example always_accept", "postmaster@report.example always_accept",
				"jane@report.example always_accept"}},
		{"mode pass", config.Config{Domains: map[string]config.Mode{"corp.example": config.Enforce,
			"report.example": config.Pass}},
			control.ExportQuery{}, []string{"inside@corp.example index restricted", "jane@corp.example index",
				"@report.example pass"}},
		{"accept file and its alias", config.Config{AcceptFiles: []string{file}, Domains: map[string]config.Mode{
			"corp.example": config.Enforce, "alias.example": config.Enforce}}, control.ExportQuery{},
			[]string{"inside@corp.example index restricted", "jane@corp.example index",
				"inside@alias.example alias restricted",
				"jane@alias.example alias", "filed@alias.example alias", "filed@corp.example accept_files"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTestStore(t)
			addAddresses(t, s, "corp", "jane@corp.example", "!inside@corp.example", "jim@report.example",
				"x@elsewhere.example")
			head, list := exported(t, &c.config, s, c.query)
			if d := cmp.Diff(c.want, list); d != "" {
				t.Errorf("recipients (-want +got):\n%s", d)
			}
			if head.Version != "test" || head.Addresses != 4 || head.State != control.Fresh || head.Time.Time != noon {
				t.Errorf("head %+v", head)
			}
		})
	}
}

// TestExporterNotReady: the list of a directory that was never read lacks its recipients.
func TestExporterNotReady(t *testing.T) {
	c := &config.Config{Domains: map[string]config.Mode{"corp.example": config.Enforce}}
	e := newTestExporter(t, c, newTestStore(t), control.ExportQuery{})
	e.directories = append(e.directories, control.ExportDirectory{Name: "lab", State: control.NotReady})
	events := 0
	e.tell = func(control.ExportEvent) error { events++; return nil }
	if err := e.run(t.Context(), noon); err == nil || !strings.Contains(err.Error(), "lab") || events > 0 {
		t.Errorf("without force: %v, %d events", err, events)
	}
	e.query.Force = true
	if err := e.run(t.Context(), noon); err != nil || events != 1 {
		t.Errorf("with force: %v, %d events", err, events)
	}
}

// TestExporterInBatches: a long list comes in several events, and ends when the listener or
// ctx does.
func TestExporterInBatches(t *testing.T) {
	c := &config.Config{Domains: map[string]config.Mode{"corp.example": config.Enforce}}
	for i := range exportBatch + 1 {
		c.Accept = append(c.Accept, fmt.Sprintf("user%04d@corp.example", i))
	}
	s := newTestStore(t)
	addAddresses(t, s, "corp", "jane@corp.example")
	e := newTestExporter(t, c, s, control.ExportQuery{})
	var sizes []int
	e.tell = func(event control.ExportEvent) error { sizes = append(sizes, len(event.Recipients)); return nil }
	if err := e.run(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int{0, exportBatch, 2}, sizes); d != "" {
		t.Errorf("sizes (-want +got):\n%s", d)
	}
	gone := errors.New("gone")
	e.tell = func(control.ExportEvent) error { return gone }
	if err := e.run(t.Context(), noon); !errors.Is(err, gone) {
		t.Errorf("without a listener: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	e.tell = func(control.ExportEvent) error { cancel(); return nil }
	if err := e.run(ctx, noon); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestExporterUnlisted: the head names every kind of recipient that the daemon accepts and no list can have.
func TestExporterUnlisted(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*config.Config)
		query  control.ExportQuery
		want   []string // words of each sentence
	}{
		{"nothing", func(*config.Config) {}, control.ExportQuery{Open: true}, nil},
		{"a pattern", func(c *config.Config) { c.AcceptPatterns = []string{"srs0=.*"} }, control.ExportQuery{},
			[]string{"accept_patterns"}},
		{"a delimiter", func(c *config.Config) { c.RecipientDelimiter = "+-" }, control.ExportQuery{},
			[]string{"recipient_delimiter = +-"}},
		{"tags", func(c *config.Config) { c.StripPrefixes = []string{"prvs=", "btv1=="} }, control.ExportQuery{},
			[]string{"prvs=, btv1== (strip_prefixes)"}},
		{"sub-domains in mode pass", func(c *config.Config) { c.Domains[".corp.example"] = config.Pass },
			control.ExportQuery{Open: true}, []string{"sub-domains of corp.example"}},
		{"judged sub-domains", func(c *config.Config) { c.Domains[".corp.example"] = config.Report },
			control.ExportQuery{Open: true}, []string{"mode report"}},
		{"local parts in judged sub-domains", func(c *config.Config) { c.Domains[".corp.example"] = config.Enforce },
			control.ExportQuery{}, []string{"postmaster, abuse (always_accept) in sub-domains of corp.example"}},
		{"no local part is always accepted", func(c *config.Config) {
			c.Domains[".corp.example"], c.AlwaysAccept = config.Enforce, nil
		}, control.ExportQuery{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			use := &config.Config{Domains: map[string]config.Mode{"corp.example": config.Enforce},
				AlwaysAccept: []string{"postmaster", "abuse"}}
			c.change(use)
			s := newTestStore(t)
			addAddresses(t, s, "corp", "ann@corp.example", "bob@sub.corp.example")
			head, _ := exported(t, use, s, c.query)
			for i, want := range c.want {
				if len(head.Unlisted) != len(c.want) || !strings.Contains(head.Unlisted[i], want) {
					t.Errorf("unlisted %q, want %q", head.Unlisted, c.want)
					break
				}
			}
			if len(c.want) == 0 && len(head.Unlisted) > 0 {
				t.Errorf("unlisted %q, want nothing", head.Unlisted)
			}
		})
	}
}
