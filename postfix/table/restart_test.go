package table

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newKept is newWatching with copies on disk.
func newKept(t *testing.T, files map[string]string) *watching {
	t.Helper()
	w := &watching{t: t, dir: t.TempDir()}
	for name, text := range files {
		w.write(name, text)
	}
	w.restart()
	w.use(w.path("one"))
	return w
}

func (w *watching) copies() string { return w.path("copies") }

// restart forgets all but the disk.
func (w *watching) restart() {
	w.tables = NewFiles(Config{Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Copies: Copies{Dir: w.copies(), Free: func(string) (uint64, error) { return 1 << 40, nil }}})
}

// copyInfo returns the only copy on disk. The copy stays open until the test ends, because
// a file system may give the inode of a removed file to the next one. os.SameFile would take them for one.
func (w *watching) copyInfo() fs.FileInfo {
	w.t.Helper()
	entries, err := os.ReadDir(w.copies())
	if err != nil || len(entries) != 1 {
		w.t.Fatalf("copies: %v, %v", entries, err)
	}
	f, err := os.Open(filepath.Join(w.copies(), entries[0].Name()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	return info
}

// rewrite changes the content of a file, and keeps its modification time.
func (w *watching) rewrite(text string) {
	w.t.Helper()
	info, err := os.Stat(w.path("one"))
	if err == nil {
		w.write("one", text)
		err = os.Chtimes(w.path("one"), info.ModTime(), info.ModTime())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *watching) doubt() string { return w.tables.Status()[0].Doubt }

// numbered returns lines of mailboxes.
func numbered(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "u%03d@x.example OK\n", i)
	}
	return text.String()
}

// TestRestart: a start judges a file by its last good copy, as a look judges a change.
func TestRestart(t *testing.T) {
	many := numbered(150) + "@a.example @b.example\n\"john doe\"@x.example OK\n@whole.example OK\n"
	for _, c := range []struct {
		name           string
		before         string
		spoil          func(*watching)
		known, unknown string
		alias          string // targets of a.example
		trouble        string // part of it; empty: none
		doubt          bool
	}{
		{"unchanged", many, func(*watching) {},
			`u149@x.example any@whole.example`, "new@x.example", "b.example", "", false},
		{"grown", many, func(w *watching) { w.write("one", many+"new@x.example OK\n") },
			"u149@x.example new@x.example", "", "b.example", "", false},
		{"lost few", many, func(w *watching) { w.write("one", numbered(149)+"new@x.example\n") },
			"u148@x.example new@x.example", "u149@x.example any@whole.example", "", "", false},
		{"lost most of few", numbered(90), func(w *watching) { w.write("one", "new@x.example\n") },
			"new@x.example", "u001@x.example", "", "", false},
		{"lost most", many, func(w *watching) { w.write("one", "new@x.example OK\n@a.example @c.example\n") },
			"u149@x.example new@x.example any@whole.example", "", "c.example b.example", "it has 2 entries", false},
		{"gone", many, func(w *watching) { os.Remove(w.path("one")) },
			"u149@x.example any@whole.example", "", "b.example", "no such file", true},
		{"empty", many, func(w *watching) { w.write("one", "") },
			"u149@x.example any@whole.example", "", "b.example", "it contains no address", true},
		{"garbage", many, func(w *watching) { w.write("one", "<html>\n") },
			"u149@x.example any@whole.example", "", "b.example", "none of its lines can be read", true},
		{"unusable, but not changed since the copy", many,
			func(w *watching) { w.rewrite(strings.Repeat("#", len(many))) },
			"u149@x.example any@whole.example", "", "b.example", "it contains no address", false},
		{"unusable, and of another size", many, func(w *watching) { w.rewrite("#") },
			"u149@x.example any@whole.example", "", "b.example", "it contains no address", true},
		{"a directory", many, func(w *watching) { os.Remove(w.path("one")); os.Mkdir(w.path("one"), 0o755) },
			"u149@x.example any@whole.example", "", "b.example", "not a regular file", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newKept(t, map[string]string{"one": c.before})
			c.spoil(w)
			for n := range 3 { // it stays so
				w.restart()
				w.use(w.path("one"))
				w.knows(fmt.Sprint("after start ", n), c.known, c.unknown)
				w.want(fmt.Sprint("and after looks ", n), c.known, c.unknown)
				if got := w.targets("a.example"); got != c.alias {
					t.Errorf("targets of the alias: %q, want %q", got, c.alias)
				}
				if got := w.doubt(); (got != "") != c.doubt {
					t.Errorf("doubt %q, want one: %t", got, c.doubt)
				}
				if got := w.trouble(); !strings.Contains(got, c.trouble) || (got == "") != (c.trouble == "") {
					t.Errorf("trouble %q, want %q", got, c.trouble)
				}
			}
			if c.known == "" || c.trouble == "" {
				return
			}
			if s := w.tables.Status()[0]; !s.Since.Equal(s.Read) {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestRestartAfterReload: what a reload applied is the copy of the next start.
func TestRestartAfterReload(t *testing.T) {
	w := newKept(t, map[string]string{"one": numbered(150)})
	w.write("one", "new@x.example OK\n")
	w.restart()
	w.use(w.path("one"))
	w.knows("held", "u149@x.example new@x.example", "")
	w.use(w.path("one")) // a reload
	w.knows("applied", "new@x.example", "u149@x.example")
	w.restart()
	w.use(w.path("one"))
	w.knows("after a start", "new@x.example", "u149@x.example")
	if w.trouble() != "" {
		t.Errorf("trouble: %s", w.trouble())
	}
}

// TestReloadAfterTheClockWasSetBack: a reload applies a file although the one in effect seems to be read later,
// by this process or by the one before.
func TestReloadAfterTheClockWasSetBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("with a restart ", restart), func(t *testing.T) {
			w := &watching{t: t, dir: t.TempDir()}
			clock := time.Now().Add(time.Hour)
			newTables := func() {
				w.tables = NewFiles(Config{Copies: Copies{Dir: w.copies()}, Now: func() time.Time { return clock }})
			}
			newTables()
			w.use(w.write("one", numbered(150)))
			clock = clock.Add(-2 * time.Hour)
			w.write("one", "new@x.example OK\n")
			if restart {
				newTables()
				w.use(w.path("one"))
				w.knows("held", "u149@x.example new@x.example", "")
			}
			w.use(w.path("one"))
			w.knows("applied", "new@x.example", "u149@x.example")
		})
	}
}

// TestGainedOverARestart: what a shrunken file gained for a while stays in effect over a start.
func TestGainedOverARestart(t *testing.T) {
	w := newKept(t, map[string]string{"one": numbered(150)})
	w.write("one", "gained@x.example OK\n")
	w.want("held", "u149@x.example gained@x.example", "")
	w.write("one", "other@x.example OK\n")
	w.restart()
	w.use(w.path("one"))
	w.knows("after a start", "u149@x.example gained@x.example other@x.example", "")
}

// TestCopyOnDisk: the copy has the mode of the store's files, is written only when something has changed,
// and goes with the file.
func TestCopyOnDisk(t *testing.T) {
	w := newKept(t, map[string]string{"one": numbered(3) + "@a.example @b.example\nspoilt\n", "two": "ann@x.example\n"})
	first := w.copyInfo()
	dir, err := os.Stat(w.copies())
	if err != nil || dir.Mode().Perm() != 0o700 || first.Mode().Perm() != 0o600 {
		t.Errorf("modes %v and %v, %v", dir.Mode(), first.Mode(), err)
	}
	same := func(what string, want bool) {
		t.Helper()
		if now := w.copyInfo(); os.SameFile(first, now) != want {
			t.Errorf("%s: written again: %t", what, want)
		}
	}
	w.use(w.path("one"))
	same("a reload", true)
	w.restart()
	w.use(w.path("one"))
	w.want("after a start", "u002@x.example", "")
	same("a start", true)
	info, err := os.Stat(w.path("one"))
	if err != nil {
		t.Fatal(err)
	}
	w.rewrite(numbered(3) + "@a.example @b.example\nspoilt\n")
	w.want("the same content and time", "u002@x.example", "")
	same("the same content and time", true)
	at := info.ModTime().Add(-time.Hour)
	if err := os.Chtimes(w.path("one"), at, at); err != nil {
		t.Fatal(err)
	}
	w.want("another time", "u002@x.example", "")
	same("another time", false)
	os.Remove(w.path("one"))
	w.restart()
	w.use(w.path("one"))
	s := w.tables.Status()[0]
	if !s.Modified.Equal(at) || s.Unread != 1 || len(s.Problems) != 1 || s.Entries != 4 || s.Aliases != 1 ||
		s.Read.IsZero() {
		t.Errorf("status of the copy %+v", s)
	}
	if _, line, _ := w.tables.Find(mustParse(t, "u002@x.example")); line != 3 {
		t.Errorf("the copy has the entry in line %d, want 3", line)
	}

	if err := os.WriteFile(filepath.Join(w.copies(), "."+first.Name()+".17"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.use(w.path("two"))
	if now := w.copyInfo(); now.Name() == first.Name() {
		t.Error("the copy of a former file is there")
	}
	if HasCopy(w.copies(), w.path("one")) || !HasCopy(w.copies(), w.path("two")) {
		t.Error("HasCopy is wrong")
	}
	w.use()
	if entries, _ := os.ReadDir(w.copies()); len(entries) > 0 {
		t.Errorf("copies of no file: %v", entries)
	}
}

// TestReadOnlyCopies: a command reads copies and changes none.
func TestReadOnlyCopies(t *testing.T) {
	w := newKept(t, map[string]string{"one": numbered(150), "two": "ann@x.example OK\n"})
	first := w.copyInfo()
	w.write("one", "new@x.example OK\n")
	w.tables = NewFiles(Config{Copies: Copies{Dir: w.copies(), ReadOnly: true}})
	w.use(w.path("one"))
	w.knows("held", "u149@x.example new@x.example", "")
	w.use(w.path("two"))
	if now := w.copyInfo(); !os.SameFile(first, now) {
		t.Error("the copy changed")
	}
}

// TestDamagedCopy: a damaged copy puts its file in doubt until a reload applies the file, over further
// starts.
func TestDamagedCopy(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"a bit of an entry":  func(b []byte) []byte { return flip(b, len(b)-20) },
		"a bit of its hash":  func(b []byte) []byte { return flip(b, len(copyFormat)+3) },
		"a bit of its head":  func(b []byte) []byte { return flip(b, len(copyFormat)+80) },
		"cut in its head":    func(b []byte) []byte { return b[:len(copyFormat)+100] },
		"cut":                func(b []byte) []byte { return b[:len(b)/2] },
		"without a line":     func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] },
		"longer":             func(b []byte) []byte { return append(b, "7 x@x.example\n"...) },
		"empty":              func([]byte) []byte { return nil },
		"another format":     func(b []byte) []byte { return append([]byte("rcpt-milter-accept-copy-2 "), b[26:]...) },
		"that of other file": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("/one"), []byte("/two")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newKept(t, map[string]string{"one": numbered(150)})
			path := filepath.Join(w.copies(), w.copyInfo().Name())
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			w.write("one", "ann@x.example OK\n")
			for range 2 {
				w.restart()
				w.use(w.path("one"))
				w.want("in doubt", "ann@x.example", "u149@x.example")
				w.write("one", "ann@x.example OK\nbob@x.example OK\n")
				w.want("changed in doubt", "bob@x.example", "")
				os.Rename(w.path("one"), w.path("away"))
				w.want("gone in doubt", "bob@x.example", "")
				os.Rename(w.path("away"), w.path("one"))
				w.want("back in doubt", "bob@x.example", "")
				if w.doubt() == "" {
					t.Fatal("no doubt")
				}
			}
			visited := 0
			w.tables.Modified("other.example", func(a FileAge) { visited++ })
			if visited != 1 {
				t.Error("a file in doubt may have named every domain")
			}
			w.use(w.path("one"))
			if w.doubt() != "" {
				t.Errorf("doubt after a reload: %s", w.doubt())
			}
			w.restart()
			w.use(w.path("one"))
			if w.doubt() != "" {
				t.Errorf("doubt after a reload and a start: %s", w.doubt())
			}
			w.tables.Modified("other.example", func(a FileAge) { t.Error("the file does not name this domain") })
			// Without the file there is nothing to judge by.
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			os.Remove(w.path("one"))
			w.restart()
			_, err = w.tables.Prepare([]string{w.path("one")})
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), w.path("one")) {
				t.Errorf("neither file nor copy: %v", err)
			}
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 4
	return b
}

// TestCopyCannotBeWritten: the files are in effect, the status says that the copy is not, and the copy is
// written when that works again.
func TestCopyCannotBeWritten(t *testing.T) {
	for name, free := range map[string]func(dir string) (uint64, error){
		"too little space": func(string) (uint64, error) { return 1000, nil },
		"an error":         func(dir string) (uint64, error) { return 0, os.ErrPermission },
	} {
		t.Run(name, func(t *testing.T) {
			w := newKept(t, map[string]string{"one": "ann@x.example OK\n"})
			first, clock := w.copyInfo(), time.Unix(1e9, 0)
			w.tables = NewFiles(Config{Now: func() time.Time { return clock },
				Log: slog.New(slog.NewTextHandler(&w.log, nil)),
				Copies: Copies{Dir: w.copies(), MinFree: 999,
					Free: func(dir string) (uint64, error) { return free(dir) }}})
			w.use(w.path("one"))
			w.write("one", "bob@x.example OK\n")
			w.want("not saved", "bob@x.example", "ann@x.example")
			if s := w.tables.Status()[0]; s.Unsaved == "" || !os.SameFile(first, w.copyInfo()) {
				t.Errorf("status %+v", s)
			}
			w.want("once more", "bob@x.example", "")
			if n := strings.Count(w.log.String(), "cannot write the copy"); n != 1 {
				t.Errorf("logged %d times", n)
			}
			free = func(string) (uint64, error) { return 1 << 30, nil }
			clock = clock.Add(retrySave)
			w.want("saved", "bob@x.example", "")
			if s := w.tables.Status()[0]; s.Unsaved != "" || os.SameFile(first, w.copyInfo()) {
				t.Errorf("status %+v", s)
			}
		})
	}
}
