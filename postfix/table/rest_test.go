package table

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// writer changes a file while Prepare waits.
type writer struct {
	*watching
	versions []string // of the file, at each wait; the last one stays
	waits    int
	cut      bool // the waits are cut short
}

func (w *writer) wait(d time.Duration) bool {
	w.t.Helper()
	if d != time.Second {
		w.t.Errorf("waits for %v", d)
	}
	if w.waits < len(w.versions) {
		w.write("one", w.versions[w.waits])
	}
	w.waits++
	return !w.cut
}

// start makes new tables. The clock is that of a start long after the last change, or right after it.
func (w *writer) start(long bool) {
	now := time.Now
	if long {
		now = func() time.Time { return time.Now().Add(time.Hour) }
	}
	w.waits = 0
	w.tables = NewFiles(Config{Rest: time.Second, Wait: w.wait, Now: now,
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Copies: Copies{Dir: w.copies()}})
}

// restlessVersions are more than Prepare waits for.
func restlessVersions() (all []string) {
	for i := range 2 * restLooks {
		all = append(all, fmt.Sprintf("part%d@x.example OK\n@a.example @c%d.example\n", i, i))
	}
	return all
}

// TestReloadDuringAWrite: a reload does not apply half a file.
func TestReloadDuringAWrite(t *testing.T) {
	const before = "ann@x.example OK\n@a.example @b.example\n"
	for _, c := range []struct {
		name, half     string
		versions       []string
		cut            bool
		known, unknown string
		waits          int
		trouble        bool
	}{
		{"complete after a moment", "bob@x.example OK\n", []string{"bob@x.example OK\ncarl@x.example OK\n"}, false,
			"bob@x.example carl@x.example", "ann@x.example", 2, false},
		{"at rest", "bob@x.example OK\n", nil, false, "bob@x.example", "ann@x.example", 1, false},
		{"empty for a moment", "", []string{"bob@x.example OK\n"}, false, "bob@x.example", "ann@x.example", 2, false},
		{"never at rest", "bob@x.example OK\n", restlessVersions(), false,
			"ann@x.example part4@x.example", "", restLooks, true},
		{"the daemon ends", "bob@x.example OK\n", nil, true, "ann@x.example bob@x.example", "", 1, true},
		{"not written", before, nil, false, "ann@x.example", "", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &writer{watching: &watching{t: t, dir: t.TempDir()}, versions: c.versions}
			w.write("one", before)
			w.start(true)
			w.use(w.path("one"))
			if w.waits != 0 {
				t.Errorf("%d waits for a file at rest", w.waits)
			}
			w.cut = c.cut
			if c.half != before {
				w.write("one", c.half)
			}
			w.use(w.path("one"))
			w.knows("after a reload", c.known, c.unknown)
			if w.waits != c.waits || (w.trouble() != "") != c.trouble || w.doubt() != "" {
				t.Errorf("%d waits, trouble %q, doubt %q", w.waits, w.trouble(), w.doubt())
			}
			if got := w.targets("a.example"); c.trouble && !strings.Contains(got, "b.example") {
				t.Errorf("targets of an alias: %s", got)
			}
			w.start(true) // the same over a start
			w.use(w.path("one"))
			w.want("at rest", "", "")
			if w.trouble() != "" {
				t.Errorf("at rest: trouble %q", w.trouble())
			}
		})
	}
}

// TestStartDuringAWrite: the same for a start, with a last good copy and without one.
func TestStartDuringAWrite(t *testing.T) {
	for _, c := range []struct {
		name           string
		copied         bool
		same           bool // the copy is that of this version
		versions       []string
		known, unknown string
		trouble, doubt bool
	}{
		{"with a copy it does not wait", true, false, restlessVersions(),
			"ann@x.example bob@x.example", "part0@x.example", true, true},
		{"with a copy of this version", true, true, restlessVersions(),
			"bob@x.example", "ann@x.example part0@x.example", false, false},
		{"complete after a moment, the first start", false, false, []string{"bob@x.example OK\ncarl@x.example OK\n"},
			"bob@x.example carl@x.example", "", false, false},
		{"never at rest, the first start", false, false, restlessVersions(), "part1@x.example", "part2@x.example",
			false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &writer{watching: &watching{t: t, dir: t.TempDir()}, versions: c.versions}
			if c.copied {
				w.write("one", "ann@x.example OK\n")
				w.start(true)
				w.use(w.path("one"))
			}
			w.write("one", "bob@x.example OK\n")
			if c.same {
				w.tables.Pass()
				w.tables.Pass()
			}
			w.start(false)
			w.use(w.path("one"))
			w.knows("after the start", c.known, c.unknown)
			if (w.trouble() != "") != c.trouble || (w.doubt() != "") != c.doubt {
				t.Errorf("trouble %q, doubt %q", w.trouble(), w.doubt())
			}
			if got := HasCopy(w.copies(), w.path("one")); got != c.copied && c.doubt {
				t.Errorf("a copy on disk: %t", got)
			}
			w.write("one", "carl@x.example OK\n")
			w.want("at rest", "carl@x.example", "ann@x.example part1@x.example")
			if w.trouble() != "" || w.doubt() != "" || !HasCopy(w.copies(), w.path("one")) {
				t.Errorf("at rest: trouble %q, doubt %q", w.trouble(), w.doubt())
			}
		})
	}
	t.Run("nothing but a broken file, the first start", func(t *testing.T) {
		w := &writer{watching: &watching{t: t, dir: t.TempDir()}, versions: []string{"", "# only\n", ""}}
		w.write("one", "")
		w.start(false)
		if _, err := w.tables.Prepare([]string{w.path("one")}); err == nil {
			t.Error("no error")
		}
	})
}

// TestAtRest: which files Prepare waits for at a start.
func TestAtRest(t *testing.T) {
	path := t.TempDir() + "/one"
	if err := os.WriteFile(path, []byte("ann@x.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := time.Now()
	for _, c := range []struct {
		name  string
		at    time.Time // by the clock
		touch time.Time // modification time of the file; zero: now
		want  bool
	}{
		{"right after the change", changed, time.Time{}, false},
		{"later", changed.Add(time.Hour), time.Time{}, true},
		{"an old time, but written now", changed, changed.Add(-time.Hour), false},
		{"modified in the future", changed.Add(time.Hour), changed.Add(2 * time.Hour), false},
		{"the clock was set back", changed.Add(-time.Hour), time.Time{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.touch.IsZero() {
				if err := os.Chtimes(path, c.touch, c.touch); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Chtimes(path, changed, changed); err != nil {
				t.Fatal(err)
			}
			waited := []time.Duration{}
			tables := NewFiles(Config{Rest: time.Minute, Now: func() time.Time { return c.at },
				Wait: func(d time.Duration) bool { waited = append(waited, d); return true }})
			if _, err := tables.Prepare([]string{path}); err != nil {
				t.Fatal(err)
			}
			if want := map[bool][]time.Duration{true: {}, false: {time.Minute}}[c.want]; !slices.Equal(waited, want) {
				t.Errorf("waited %v, want %v", waited, want)
			}
		})
	}
}
