package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
)

// TestExportFileOpenDomains: the file rejects nothing that the daemon does not reject: no
// recipient in mode report, and none in an enforced domain without a known address. What it cannot
// open, its head says.
func TestExportFileOpenDomains(t *testing.T) {
	x := newExportTest(t, newTestStore(t), "ann@corp.example", "jim@report.example", "kim@sub.below.example")
	x.use.Domains = map[string]config.Mode{"corp.example": config.Enforce, "report.example": config.Report,
		"empty.example": config.Enforce, "pass.example": config.Pass, ".below.example": config.Report}
	x.use.Accept = []string{"@report.example"}
	x.pass("first", "ann@corp.example jim@report.example kim@sub.below.example @report.example @pass.example "+
		"@sub.below.example @empty.example", "", "", 1)
	text, _ := os.ReadFile(x.use.Export.File)
	want := "not by this table: recipients in sub-domains of below.example without a known address"
	if !strings.Contains(string(text), want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}

// TestExportFileStaleFile: while an accept file is too old, the daemon defers unknown recipients of the
// domains that the file names, and of their aliases. The exported file has these domains as a whole.
func TestExportFileStaleFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cloud")
	if err := os.WriteFile(file, []byte("cloud@corp.example OK\n@alias.example @corp.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const listed = "ann@corp.example eve@alias.example zoe@other.example ann@alias.example cloud@alias.example " +
		"cloud@corp.example"
	for _, c := range []struct {
		name string
		age  time.Duration
		max  time.Duration
		when config.Fallback
		mode config.Mode // of corp.example
		open string      // whole domains
		then string      // the same after a fresh copy of the file came
	}{
		{"fresh", time.Minute, time.Hour, config.Tempfail, config.Enforce, "", ""},
		{"no limit", 1000 * time.Hour, 0, config.Tempfail, config.Enforce, "", ""},
		{"too old", 2 * time.Hour, time.Hour, config.Tempfail, config.Enforce, " @alias.example @corp.example", ""},
		{"of the future", -time.Hour, time.Hour, config.Tempfail, config.Enforce, " @alias.example @corp.example", ""},
		{"accept", 2 * time.Hour, time.Hour, config.Accept, config.Enforce, " @alias.example @corp.example", ""},
		{"refuse", 2 * time.Hour, time.Hour, config.Refuse, config.Enforce, "", ""},
		{"mode report", 2 * time.Hour, time.Hour, config.Tempfail, config.Report, " @corp.example @alias.example",
			" @corp.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			setTime := func(age time.Duration) {
				if err := os.Chtimes(file, noon.Add(-age), noon.Add(-age)); err != nil {
					t.Fatal(err)
				}
			}
			x := newExportTest(t, newTestStore(t), "ann@corp.example", "zoe@other.example", "eve@alias.example")
			x.use.Domains = map[string]config.Mode{"corp.example": c.mode, "other.example": config.Enforce,
				"alias.example": config.Enforce}
			x.use.AcceptFiles, x.use.AcceptFilesMaxAge, x.use.WhenStale = []string{file}, c.max, c.when
			setTime(c.age)
			x.pass("first", listed+c.open, "", "", 1)
			setTime(time.Minute)
			ran := 0
			if c.open != c.then {
				ran = 1
			}
			x.pass("a fresh copy", listed+c.then, "", "", ran)
		})
	}
}

// TestOpenOfSameTables: a file that is read while the open domains are found makes them found again, with its table.
func TestOpenOfSameTables(t *testing.T) {
	f := newAgedFiles(t, map[string]string{"new": "ann@new.example OK\n"}, nil)
	var seen []int
	withSameTables(f.files, func(files []*tables.Table) {
		if seen = append(seen, files[0].Len()); len(seen) == 1 {
			f.write("new", "ann@new.example OK\nbob@new.example OK\n", 0)
			f.files.Pass()
			f.files.Pass()
		}
	})
	if !slices.Equal(seen, []int{1, 2}) {
		t.Errorf("entries seen: %v", seen)
	}
}

// TestFileInDoubtComesFirst: a file that is too old hides none that may lack entries, to which when_stale: refuse
// does not apply. The list has the domains of both, or of the latter.
func TestFileInDoubtComesFirst(t *testing.T) {
	f := newAgedFiles(t, map[string]string{"old": "ann@old.example OK\n", "new": "ann@new.example OK\n"},
		map[string]time.Duration{"old": 50 * time.Hour})
	if got := f.ages(day).freshness("old.example"); got.Doubt != "" || got.File != filepath.Join(f.dir, "old") {
		t.Fatalf("without a doubt: %+v", got)
	}
	f.doubt()
	c := fileFed(day)
	c.WhenStale = config.Refuse
	if got := f.decide(c, "no@old.example"); !strings.HasPrefix(got.Reply.String(), "451") ||
		!strings.Contains(got.Reason, filepath.Join(f.dir, "new")) {
		t.Errorf("%s, %s", got.Reply, got.Reason)
	}
	var open []string
	e := newTestExporter(t, c, f.store, control.ExportQuery{})
	e.findOpen(nil, func(string) bool { return true }, f.ages(day))
	for _, o := range e.open {
		if o.source == control.SourceStale {
			open = append(open, o.name)
		}
	}
	if !slices.Contains(open, "old.example") || !slices.Contains(open, "none.example") {
		t.Errorf("open: %q", open)
	}
}

// TestExportFileStaleTarget: an alias is open if the accept file of its target is too old, in whatever
// mode the target is.
func TestExportFileStaleTarget(t *testing.T) {
	for name, domains := range map[string]map[string]config.Mode{
		"enforced":   {"alias.example": config.Enforce, "corp.example": config.Enforce},
		"report":     {"alias.example": config.Enforce, "corp.example": config.Report},
		"not judged": {"alias.example": config.Enforce},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cloud")
			if err := os.WriteFile(file, []byte("cloud@corp.example OK\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			x := newExportTest(t, newTestStore(t), "ann@corp.example", "eve@alias.example")
			x.use.Domains, x.use.DomainAliases = domains, map[string]string{"alias.example": "corp.example"}
			x.use.AcceptFiles, x.use.AcceptFilesMaxAge = []string{file}, time.Hour
			setTime := func(age time.Duration) {
				if err := os.Chtimes(file, noon.Add(-age), noon.Add(-age)); err != nil {
					t.Fatal(err)
				}
				x.Pass(t.Context())
			}
			has := func(what string, want bool) {
				t.Helper()
				text, err := os.ReadFile(x.use.Export.File)
				if err != nil || strings.Contains(string(text), "\n@alias.example\tOK") != want {
					t.Errorf("%s: %v, the file has\n%s", what, err, text)
				}
			}
			setTime(time.Minute)
			has("fresh", false)
			setTime(2 * time.Hour)
			has("too old", true)
		})
	}
}

// TestExportFileWithoutIndexedRecipient: a list needs a recipient of the index, or of an accept file on
// a host without directories. The index may have it under the target of an alias only.
func TestExportFileWithoutIndexedRecipient(t *testing.T) {
	const lines = "ann@corp.example OK\n@alias.example @corp.example\n"
	fed := []control.ExportDirectory{{Name: "corp", State: control.Fresh}}
	for _, c := range []struct {
		name        string
		directories []control.ExportDirectory
		indexed     []string
		lines       string // of the accept file
		domains     []string
		want        string // keys; empty means that the list is empty
	}{
		{"no directory", nil, nil, lines, []string{"corp.example", "alias.example"},
			"extra@alias.example ann@alias.example extra@corp.example ann@corp.example"},
		{"a directory that was removed", []control.ExportDirectory{{Name: "corp", State: control.Retired}}, nil, lines,
			[]string{"corp.example"}, "extra@corp.example ann@corp.example"},
		{"no directory, a whole domain", nil, nil, "@corp.example OK\n", []string{"corp.example"},
			"extra@corp.example @corp.example"},
		{"no directory, other domains", nil, nil, lines, []string{"other.example"}, ""},
		{"a directory without a recipient", fed, nil, lines, []string{"corp.example", "alias.example"}, ""},
		{"a directory with the target of an alias", fed, []string{"bob@inner.example"},
			"@alias.example @inner.example\n",
			[]string{"alias.example", "inner.example"}, "bob@inner.example bob@alias.example extra@corp.example"},
		{"the target is not judged", fed, []string{"bob@inner.example"}, "", []string{"alias.example"},
			"bob@alias.example extra@corp.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newExportTest(t, newTestStore(t), c.indexed...)
			x.use.Domains, x.use.Accept = map[string]config.Mode{}, []string{"extra@corp.example"}
			for _, domain := range c.domains {
				x.use.Domains[domain] = config.Enforce
			}
			if c.lines != "" {
				x.use.AcceptFiles = []string{filepath.Join(t.TempDir(), "accept")}
				if err := os.WriteFile(x.use.AcceptFiles[0], []byte(c.lines), 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				x.use.DomainAliases = map[string]string{"alias.example": "inner.example"}
			}
			before := x.exporter
			x.exporter = func(of *config.Config, q control.ExportQuery) (exporter, error) {
				e, err := before(of, q)
				e.directories, e.open = c.directories, nil
				return e, err
			}
			if c.want == "" {
				x.pass("first", "", "", "an empty list would reject every recipient", 0)
			} else {
				x.pass("first", c.want, "", "", 1)
			}
		})
	}
}
