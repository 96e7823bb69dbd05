package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
)

// watching is a directory with files, and tables that read them on request.
type watching struct {
	t      *testing.T
	dir    string
	log    bytes.Buffer
	tables *Files
}

func newWatching(t *testing.T, files map[string]string) *watching {
	t.Helper()
	w := &watching{t: t, dir: t.TempDir()}
	var paths []string
	for _, name := range []string{"one", "two"} {
		if text, ok := files[name]; ok {
			paths = append(paths, w.write(name, text))
		}
	}
	w.tables = NewFiles(Config{Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	w.use(paths...)
	return w
}

func (w *watching) use(paths ...string) {
	w.t.Helper()
	p, err := w.tables.Prepare(paths)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tables.Use(p)
}

func (w *watching) path(name string) string { return filepath.Join(w.dir, name) }

func (w *watching) write(name, text string) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// replace writes a file beside and renames it over.
func (w *watching) replace(name, text string) {
	w.t.Helper()
	w.write(name+".new", text)
	if err := os.Rename(w.path(name+".new"), w.path(name)); err != nil {
		w.t.Fatal(err)
	}
}

// want looks at the files twice and checks who is known.
func (w *watching) want(what, known, unknown string) {
	w.t.Helper()
	w.tables.Pass()
	w.tables.Pass()
	w.knows(what, known, unknown)
}

func (w *watching) knows(what, known, unknown string) {
	w.t.Helper()
	for list, want := range map[string]bool{known: true, unknown: false} {
		for text := range strings.FieldsSeq(list) {
			a, err := address.Parse(text)
			if err != nil {
				w.t.Fatal(err)
			}
			if _, line, _ := w.tables.Find(a); line != 0 != want {
				w.t.Errorf("%s: Find(%q) gives line %d, want one: %t", what, text, line, want)
			}
		}
	}
}

func (w *watching) trouble() string {
	var all []string
	for _, s := range w.tables.Status() {
		if s.Trouble != "" {
			all = append(all, strings.TrimPrefix(s.Trouble, w.dir+"/"))
		}
	}
	return strings.Join(all, "; ")
}

func TestTables(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@x.example OK\n", "two": "@y.example OK\nbob@x.example OK\n"})
	w.knows("at first", "ann@x.example bob@x.example any@y.example", "carl@x.example")
	if file, line, whole := w.tables.Find(mustParse(t, "bob@x.example")); file != w.path("two") || line != 2 || whole {
		t.Errorf("bob is in %s:%d, by his domain %t", file, line, whole)
	}
	if _, line, whole := w.tables.Find(mustParse(t, "any@y.example")); line != 1 || !whole {
		t.Errorf("any@y.example is in line %d, by its domain %t", line, whole)
	}

	w.write("one", "carl@x.example OK\n")
	w.tables.Pass()
	w.knows("after one look, since it may be half written", "ann@x.example", "carl@x.example")
	w.tables.Pass()
	w.knows("after the second", "carl@x.example bob@x.example", "ann@x.example")

	w.replace("one", "dora@x.example OK\n")
	w.want("renamed over", "dora@x.example", "carl@x.example")

	// The same size and time of change in place: the inode's own time tells.
	info, err := os.Stat(w.path("one"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("one", "dore@x.example OK\n")
	if err := os.Chtimes(w.path("one"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	w.want("copied with its time", "dore@x.example", "dora@x.example")
	if w.trouble() != "" {
		t.Errorf("trouble: %s", w.trouble())
	}
}

func TestLastGoodCopy(t *testing.T) {
	for _, c := range []struct {
		what    string
		spoil   func(w *watching)
		trouble string
	}{
		{"vanished", func(w *watching) { os.Remove(w.path("one")) }, "no such file or directory"},
		{"emptied", func(w *watching) { w.write("one", "") }, "one: it contains no address"},
		{"only comments", func(w *watching) { w.write("one", "# nobody\n") }, "one: it contains no address"},
		{"garbage", func(w *watching) { w.write("one", "<html>\n</html>\n") },
			`one: none of its lines can be read: line 1: "<html>" is neither user@domain nor @domain`},
		{"UTF-16", func(w *watching) { w.write("one", "\xff\xfea\x00") },
			"one: not a table in Postfix's source format: it is written in UTF-16; save it as UTF-8"},
		{"a directory", func(w *watching) { os.Remove(w.path("one")); os.Mkdir(w.path("one"), 0o755) },
			"one: not a table in Postfix's source format: not a regular file"},
		{"a dead link", func(w *watching) { os.Remove(w.path("one")); os.Symlink("nowhere", w.path("one")) },
			"no such file or directory"},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWatching(t, map[string]string{"one": "ann@x.example OK\n", "two": "bob@x.example OK\n"})
			c.spoil(w)
			w.want("spoilt", "ann@x.example bob@x.example", "")
			if got := w.trouble(); !strings.HasSuffix(got, c.trouble) {
				t.Errorf("trouble is %q, want %q", got, c.trouble)
			}
			w.tables.Pass()
			if n := strings.Count(w.log.String(), "its last good copy stays in effect"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, &w.log)
			}
			os.RemoveAll(w.path("one"))
			w.write("one", "carl@x.example OK\n")
			w.want("repaired", "carl@x.example bob@x.example", "ann@x.example")
			if w.trouble() != "" {
				t.Errorf("still trouble: %s", w.trouble())
			}
		})
	}
}

// TestTheSameFileComesBack: a file that was moved away and back is not in trouble.
func TestTheSameFileComesBack(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@x.example OK\n"})
	os.Rename(w.path("one"), w.path("away"))
	w.want("away", "ann@x.example", "")
	os.Rename(w.path("away"), w.path("one"))
	w.want("back", "ann@x.example", "")
	if w.trouble() != "" {
		t.Errorf("trouble: %s", w.trouble())
	}
}

// TestRestless: a file that changes between all looks may be half written, however long that takes.
// Its entries count in the end, and none goes before it is at rest.
func TestRestless(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@x.example OK\n@a.example @b.example\n@whole.example OK\n"})
	touch := func(i int) {
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(w.path("one"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	w.write("one", "bob@x.example OK\n@a.example @c.example\n@whole.example @c.example\n")
	for i := range unsettledLooks {
		w.tables.Pass()
		w.knows("restless", "ann@x.example", "bob@x.example")
		touch(i)
	}
	w.tables.Pass()
	w.knows("still restless", "bob@x.example ann@x.example any@whole.example", "")
	if got := w.targets("a.example"); got != "c.example b.example" {
		t.Errorf("targets of an alias: %s", got)
	}
	if w.trouble() == "" {
		t.Error("no trouble")
	}
	for i := range 2 * unsettledLooks {
		touch(2000 + i)
		w.tables.Pass()
		w.knows("restless for long", "bob@x.example ann@x.example any@whole.example", "")
	}
	w.want("at rest", "bob@x.example", "ann@x.example any@whole.example")
	if got := w.targets("a.example"); got != "c.example" || w.trouble() != "" {
		t.Errorf("at rest: targets of an alias: %s, trouble %q", got, w.trouble())
	}
}

// TestShrunkFile: a file that lost most of its entries takes none away before a reload.
func TestShrunkFile(t *testing.T) {
	lines := func(n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "u%03d@x.example OK\n", i)
		}
		return text.String()
	}
	for _, c := range []struct {
		name          string
		before, after int
		held          bool
	}{
		{"few entries", 99, 1, false},
		{"most of many", 150, 40, true},
		{"half", 200, 100, false},
		{"more than half", 201, 99, true},
		{"grown", 100, 300, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWatching(t, map[string]string{"one": lines(c.before)})
			last := fmt.Sprintf("u%03d@x.example", c.before-1)
			w.write("one", lines(c.after)+"new@x.example OK\n")
			if !c.held {
				gone := last
				if c.after >= c.before {
					gone = ""
				}
				w.want("changed", "new@x.example", gone)
				return
			}
			w.want("held", last+" new@x.example", "")
			if w.trouble() == "" {
				t.Error("no trouble")
			}
			w.tables.Pass()
			w.want("still held", last+" new@x.example", "")
			w.use(w.path("one"))
			w.want("after a reload", "new@x.example", last)
			if w.trouble() != "" {
				t.Errorf("after a reload: %s", w.trouble())
			}
		})
	}
}

// TestExchangedFile: a file of the same size that lost most of its entries, such as the wrong file, takes none away
// TestFormerFileBack: a file that was exchanged by mistake, and is put back, ends the trouble.
func TestFormerFileBack(t *testing.T) {
	right := numbered(150)
	wrong := strings.ReplaceAll(right, "u", "other")
	t.Run("held", func(t *testing.T) {
		w := newKept(t, map[string]string{"one": right})
		w.write("one", wrong)
		w.want("held", "u149@x.example other149@x.example", "")
		w.write("one", right)
		w.want("back", "u149@x.example", "other149@x.example")
		if got := w.trouble(); got != "" {
			t.Errorf("trouble %q", got)
		}
	})
	t.Run("exchanged twice", func(t *testing.T) {
		w := newKept(t, map[string]string{"one": right})
		for _, other := range []string{wrong, strings.ReplaceAll(right, "u", "third")} {
			w.write("one", other)
			w.want("held", "u149@x.example", "")
		}
		w.write("one", right)
		w.want("back", "u149@x.example", "other149@x.example")
	})
}

// either, over further changes and starts, until the entries are back or a reload.
func TestExchangedFile(t *testing.T) {
	others := strings.ReplaceAll(numbered(150), "u", "other") + "@a.example @c.example\n"
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprint("entries come back ", back), func(t *testing.T) {
			w := newKept(t, map[string]string{"one": numbered(150) + "@a.example @b.example\n"})
			w.write("one", others)
			w.want("held", "u000@x.example u149@x.example other149@x.example", "")
			if got := w.trouble(); !strings.Contains(got, "it has 151 entries, and lacks 150 ") {
				t.Errorf("trouble %q", got)
			}
			w.write("one", others+numbered(10))
			w.want("changed", "u149@x.example other149@x.example", "")
			for range 2 {
				w.restart()
				w.use(w.path("one"))
				w.want("after a start", "u149@x.example other149@x.example", "")
			}
			if w.trouble() == "" {
				t.Error("no trouble after a start")
			}
			if back {
				w.write("one", others+numbered(100))
				w.want("back", "u099@x.example other149@x.example", "u149@x.example")
			} else {
				w.use(w.path("one"))
				w.knows("after a reload", "u009@x.example other149@x.example", "u149@x.example")
			}
			if got := w.trouble(); got != "" {
				t.Errorf("trouble %q", got)
			}
			w.restart()
			w.use(w.path("one"))
			w.knows("after another start", "other149@x.example", "u149@x.example")
		})
	}
}

// targets returns the targets of an alias.
func (w *watching) targets(alias string) string {
	var all []string
	w.tables.Aliases(alias, func(target, _ string, _ int) { all = append(all, target) })
	return strings.Join(all, " ")
}

func TestPrepareErrors(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("# nobody\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tables := NewFiles(Config{})
	_, err := tables.Prepare([]string{filepath.Join(dir, "none"), empty})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), empty+": it contains no address") {
		t.Errorf("Prepare: %v", err)
	}
	if _, line, _ := tables.Find(mustParse(t, "ann@x.example")); line != 0 || len(tables.Status()) != 0 {
		t.Error("no tables, and an address is found")
	}
}

// TestUse: other files, of which some cannot be used at the moment.
func TestUse(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@x.example OK\n", "two": "bob@x.example OK\n"})
	os.Remove(w.path("one"))
	w.write("two", "carl@x.example OK\n")
	w.write("three", "dora@x.example OK\n")
	w.use(w.path("three"), w.path("one"), w.path("two"))
	w.knows("taken over", "ann@x.example carl@x.example dora@x.example", "bob@x.example")
	if !strings.Contains(w.trouble(), "no such file") {
		t.Errorf("trouble: %q", w.trouble())
	}
	w.write("one", "emil@x.example OK\n")
	w.want("and watched", "emil@x.example", "ann@x.example")
	if _, err := w.tables.Prepare([]string{w.path("none"), w.path("one")}); err == nil {
		t.Error("a file that was not there before may be missing")
	}
	w.knows("after a failure", "emil@x.example dora@x.example", "")
	w.use(w.path("two"))
	w.want("one left", "carl@x.example", "emil@x.example dora@x.example")
}

func TestRun(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@x.example OK\n"})
	ticks := make(chan time.Time)
	stopped := false
	w.tables = NewFiles(Config{Tick: func(every time.Duration) (<-chan time.Time, func()) {
		if every != defaultEvery {
			t.Errorf("looks every %v", every)
		}
		return ticks, func() { stopped = true }
	}})
	w.use(w.path("one"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.tables.Run(ctx) }()
	w.write("one", "bob@x.example OK\n")
	for range 3 { // the third is taken when the second has been worked off
		ticks <- time.Time{}
	}
	w.knows("after ticks", "bob@x.example", "ann@x.example")
	cancel()
	if err := <-done; err != nil || !stopped {
		t.Errorf("Run: %v, ticker stopped %t", err, stopped)
	}
}

func mustParse(t *testing.T, text string) address.Address {
	t.Helper()
	a, err := address.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestChange: while something else is exchanged, both the files before and those after
// are asked.
func TestChange(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@example.com x\n"})
	p, err := w.tables.Prepare([]string{w.write("two", "bob@example.com x\n")})
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, ann, bob int) {
		t.Helper()
		for text, line := range map[string]int{"ann@example.com": ann, "bob@example.com": bob} {
			a, err := address.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, got, _ := w.tables.Find(a); got != line {
				t.Errorf("%s: %s is on line %d, want %d", when, text, got, line)
			}
		}
	}
	want("before", 1, 0)
	w.tables.Change(p, func() { want("in between", 1, 1) })
	want("after", 0, 1)
}

// TestChangeAfterALook: a look between Prepare and Change reads a newer version. Change keeps it.
func TestChangeAfterALook(t *testing.T) {
	w := newWatching(t, map[string]string{"one": "ann@example.com x\n"})
	p, err := w.tables.Prepare([]string{w.path("one")})
	if err != nil {
		t.Fatal(err)
	}
	w.write("one", "ann@example.com x\nnew@example.com x\n")
	w.want("before", "new@example.com", "")
	w.tables.Use(p)
	w.knows("after", "ann@example.com new@example.com", "")
}
