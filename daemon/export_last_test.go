package daemon

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// with gives the export a second directory, lab, in this state, and its domains without an address
// that it may own.
func (x *exportTest) withLab(state *control.State, maybeEmpty ...string) {
	before := x.exporter
	x.exporter = func(c *config.Config, q control.ExportQuery) (exporter, error) {
		e, err := before(c, q)
		e.directories = append(e.directories, control.ExportDirectory{Name: "lab", State: *state})
		if !trusted(*state) {
			e.open = slices.DeleteFunc(e.open, func(o openDomain) bool { return slices.Contains(maybeEmpty, o.name) })
			e.maybeEmpty = maybeEmpty
		}
		return e, err
	}
}

// TestExportFileUnion: while a directory is stale or not ready, the file gains the recipients of the
// others and loses none. Afterwards it is the present list again.
func TestExportFileUnion(t *testing.T) {
	for _, format := range []string{"postmap", "text", "json"} {
		for state, why := range map[control.State]string{control.Stale: "directory lab is stale",
			control.NotReady: "directory lab is not_ready"} {
			t.Run(format+" "+string(state), func(t *testing.T) {
				s := newTestStore(t)
				lab := control.Fresh
				x := newExportTest(t, s, "ann@corp.example", "!bob@corp.example", `"j d"@corp.example`)
				x.use.Export.Format = format
				x.withLab(&lab)
				pass := func(what, keys, union string, kept int64, ran int) {
					t.Helper()
					x.ran = 0
					x.Pass(t.Context())
					var got []string
					f, err := os.Open(x.use.Export.File)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					if err := eachEntry(format, f, func(r control.Recipient) error {
						got = append(got, r.Address)
						if format == "json" && r.Restricted != (r.Address == "bob@corp.example") {
							t.Errorf("%s: %+v", what, r)
						}
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					if d := cmp.Diff(keys, strings.Join(got, " ")); d != "" {
						t.Errorf("%s: keys (-want +got):\n%s", what, d)
					}
					if s := x.Status(); s.Union != union || s.Kept != kept || s.Held != "" || s.Trouble != "" ||
						s.Entries != int64(len(got)) {
						t.Errorf("%s: status %+v", what, s)
					}
					if x.ran != ran {
						t.Errorf("%s: the command ran %d times, want %d", what, x.ran, ran)
					}
				}
				pass("fresh", `"j d"@corp.example ann@corp.example bob@corp.example`, "", 0, 1)
				lab = state
				x.now = func() time.Time { return noon.Add(time.Hour) }
				pass("in doubt", `"j d"@corp.example ann@corp.example bob@corp.example`, why, 0, 0)
				remove(t, s, "corp", 2)
				remove(t, s, "corp", 3)
				addAddresses(t, s, "corp", "ann@corp.example")
				pass("two removals", `ann@corp.example "j d"@corp.example bob@corp.example`, why, 2, 1)
				addAddresses(t, s, "corp", "ann@corp.example", "new@corp.example")
				const both = `ann@corp.example new@corp.example "j d"@corp.example bob@corp.example`
				pass("an addition", both, why, 2, 1)
				pass("unchanged", both, why, 2, 0)
				next := *x.use
				next.Refuse = []address.Address{parsed(t, "ann@corp.example")}
				x.use = &next
				pass("a reload", `new@corp.example ann@corp.example "j d"@corp.example bob@corp.example`, why, 3, 1)
				if s := x.Status(); s.Current.Time != noon {
					t.Errorf("a union is current: %+v", s)
				}
				lab = control.Late
				pass("trusted again", "new@corp.example", "", 0, 1)
				if s := x.Status(); s.Current.Time != noon.Add(time.Hour) {
					t.Errorf("status %+v", s)
				}
				if n := strings.Count(x.log.String(), "level=WARN"); n != 1 {
					t.Errorf("%d warnings:\n%s", n, x.log)
				}
			})
		}
	}
}

// TestExportFileUnionSaysSo: the head of the table says that it is a union, why, and what it may lack.
func TestExportFileUnionSaysSo(t *testing.T) {
	lab := control.Fresh
	x := newExportTest(t, newTestStore(t), "ann@corp.example")
	x.withLab(&lab)
	x.pass("fresh", "ann@corp.example", "", "", 1)
	lab = control.Stale
	addAddresses(t, x.store, "corp", "ann@corp.example", "new@corp.example")
	x.pass("stale", "ann@corp.example new@corp.example", "", "", 1)
	text, _ := os.ReadFile(x.use.Export.File)
	for _, want := range []string{"# It keeps all entries of the table before it, because directory lab is stale",
		"not by this table: what is new in directory lab since"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestExportFileUnionNeedsLastList: without a last list that can be read in full, nothing is written
// while a directory is in doubt.
func TestExportFileUnionNeedsLastList(t *testing.T) {
	const head = "# The recipients\nann@corp.example\tOK\n"
	for _, c := range []struct{ name, format, last string }{
		{"none", "postmap", ""},
		{"without an entry", "postmap", "# The recipients\n"},
		{"cut off", "postmap", head + "bob@corp.exam"},
		{"cut off in a value", "postmap", head + "bob@corp.example\tO"},
		{"another value", "postmap", head + "bob@corp.example\tREJECT\n"},
		{"an alias", "postmap", head + "@a.example\t@b.example\n"},
		{"a continued line", "postmap", head + " more\n"},
		{"text in place of a table", "postmap", "ann@corp.example\n"},
		{"not UTF-8", "postmap", head + "b\xfcb@corp.example\tOK\n"},
		{"a long line", "postmap", head + strings.Repeat("b", 1<<20) + "@corp.example\tOK\n"},
		{"no address", "postmap", head + "bob\tOK\n"},
		{"empty text", "text", ""},
		{"a table in place of text", "text", head},
		{"other spelling in text", "text", "Ann@corp.example\n"},
		{"a domain in text", "text", "@corp.example\n"},
		{"a long line of text", "text", strings.Repeat("b", 1<<20) + "@corp.example\n"},
		{"empty JSON", "json", "[]\n"},
		{"JSON without an end", "json", "[\n" + `{"address":"ann@corp.example","source":"index","restricted":false}` +
			"\n"},
		{"other JSON", "json", "[\n" + `{"address":"ann@corp.example","sauce":"index"}` + "\n]\n"},
		{"two rows on a line", "json", "[\n" + `{"address":"ann@corp.example"} {"address":"bob@corp.example"}` +
			"\n]\n"},
		{"text behind the JSON", "json", "[\n" + `{"address":"ann@corp.example"}` + "\n]\nmore\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newExportTest(t, newTestStore(t), "new@corp.example")
			x.use.Export.Format, x.state = c.format, control.Stale
			if c.last != "" {
				if err := os.WriteFile(x.use.Export.File, []byte(c.last), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			lookups := 0
			before := x.exporter
			x.exporter = func(of *config.Config, q control.ExportQuery) (e exporter, err error) {
				if e, err = before(of, q); err == nil {
					counting := countingIndex{index{store: x.store}, &lookups}
					e.policy, err = newPolicy(of, counting, nil, queryChecks{}, x.now)
				}
				return e, err
			}
			x.Pass(t.Context())
			if lookups > 0 && c.name != "a domain in text" {
				t.Errorf("a list was made although it cannot be completed: %d lookups", lookups)
			}
			text, _ := os.ReadFile(x.use.Export.File)
			if s := x.Status(); string(text) != c.last || !strings.HasPrefix(s.Held, "directory corp is stale; ") ||
				!strings.Contains(s.Held, errLastList.Error()) || s.Union != "" || s.Trouble != "" {
				t.Errorf("status %+v, file\n%.200s", s, text)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(x.use.Export.File), ".*")); len(left) > 0 {
				t.Errorf("files left: %q", left)
			}
		})
	}
}

// countingIndex counts lookups.
type countingIndex struct {
	index
	lookups *int
}

func (i countingIndex) Lookup(a address.Address) (policy.Entry, error) {
	*i.lookups++
	return i.index.Lookup(a)
}

// TestExportFileUnionOpensNewDomains: an enforced domain whose directory is not ready is in the union
// as a whole, unless the last list names it: the daemon defers its recipients. So are its aliases.
func TestExportFileUnionOpensNewDomains(t *testing.T) {
	lab := control.Fresh
	x := newExportTest(t, newTestStore(t), "ann@corp.example")
	x.use.Accept = []string{"bob@old.example"}
	x.withLab(&lab, "new.example", ".below.example", "old.example")
	x.pass("fresh", "ann@corp.example bob@old.example", "", "", 1)
	next := *x.use
	next.Accept = nil
	next.Domains = map[string]config.Mode{"corp.example": config.Enforce, "old.example": config.Enforce,
		"new.example": config.Enforce, ".below.example": config.Enforce}
	x.use, lab = &next, control.NotReady
	x.pass("not ready", "ann@corp.example bob@old.example @new.example", "", "", 1)
	x.pass("unchanged", "ann@corp.example bob@old.example @new.example", "", "", 0)
	addAddresses(t, x.store, "lab", "eve@new.example", "bob@old.example")
	lab = control.Fresh
	x.pass("ready", "ann@corp.example bob@old.example eve@new.example", "", "", 1)
}

// TestFindOpenWithoutProof: a domain without a known address is open if a complete pass shows that, and
// set apart otherwise. So are its aliases.
func TestFindOpenWithoutProof(t *testing.T) {
	c := &config.Config{Domains: map[string]config.Mode{"corp.example": config.Enforce, "new.example": config.Enforce,
		"alias.example": config.Enforce}, DomainAliases: map[string]string{"alias.example": "new.example"}}
	e := newTestExporter(t, c, newTestStore(t), control.ExportQuery{})
	for _, read := range []bool{true, false} {
		e.open, e.maybeEmpty = nil, nil
		e.findOpen([]string{"new.example"}, func(string) bool { return read }, fileAges{})
		var open []string
		for _, o := range e.open {
			open = append(open, o.name)
		}
		want, none := []string{"new.example", "alias.example"}, []string(nil)
		if !read {
			want, none = none, want
		}
		if d := cmp.Diff([][]string{want, none}, [][]string{open, e.maybeEmpty}); d != "" {
			t.Errorf("read %v: open, maybe empty (-want +got):\n%s", read, d)
		}
	}
}

// doubtfulIndex is an index whose internal-only addresses may be open by now.
type doubtfulIndex struct{ index }

func (i doubtfulIndex) Lookup(a address.Address) (policy.Entry, error) {
	entry, err := i.index.Lookup(a)
	if entry.InternalOnly {
		entry.Doubt = errors.New("a commit was lost")
	}
	return entry, err
}

// TestExportFileUnionInDoubt: after lost commits an internal-only recipient cannot be decided. It is in
// the list all the same, also under its aliases.
func TestExportFileUnionInDoubt(t *testing.T) {
	x := newExportTest(t, newTestStore(t), "ann@corp.example", "!staff@corp.example")
	x.use.Domains["alias.example"] = config.Enforce
	x.use.DomainAliases = map[string]string{"alias.example": "corp.example"}
	const all = "ann@corp.example staff@corp.example ann@alias.example staff@alias.example"
	x.pass("fresh", all, "", "", 1)
	before := x.exporter
	x.exporter = func(c *config.Config, q control.ExportQuery) (e exporter, err error) {
		if e, err = before(c, q); err != nil {
			return e, err
		}
		e.policy, err = newPolicy(c, doubtfulIndex{index{store: x.store}}, nil, queryChecks{}, x.now)
		return e, err
	}
	x.state = control.NotReady
	addAddresses(t, x.store, "corp", "ann@corp.example", "!staff@corp.example", "new@corp.example")
	x.pass("in doubt", "ann@corp.example new@corp.example staff@corp.example ann@alias.example new@alias.example "+
		"staff@alias.example", "", "", 1)
}

// TestExportFileUnionOfDamagedStore: a damaged store adds nothing, and the last list stays.
func TestExportFileUnionOfDamagedStore(t *testing.T) {
	x := newExportTest(t, newTestStore(t), "ann@corp.example")
	x.pass("fresh", "ann@corp.example", "", "", 1)
	x.state = control.Stale
	x.health = func() store.Health { return store.Health{State: store.Damaged} }
	addAddresses(t, x.store, "corp", "ann@corp.example", "new@corp.example")
	x.pass("damaged", "ann@corp.example", "the store is damaged", "", 0)
}

// TestRecipientListKeepFails: an error of the new list is not one of the last list.
func TestRecipientListKeepFails(t *testing.T) {
	l := NewRecipientList(ListOptions{Format: "text", Force: true, Kept: "why"}, brokenWriter{})
	long := strings.Repeat(strings.Repeat("a", 100)+"@corp.example\n", 2000)
	if _, err := l.Keep(strings.NewReader(long), func(control.Recipient) {}); !errors.Is(err, io.ErrShortWrite) ||
		errors.Is(err, errLastList) {
		t.Errorf("error %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
