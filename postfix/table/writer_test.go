package table

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriter(t *testing.T) {
	var out strings.Builder
	w := NewWriter(&out)
	w.Comment("two\nlines\n")
	for _, key := range []string{"ann@x.example", `"john doe"@x.example`, `"a\"b"@x.example`, "john..doe@x.example",
		"jürgen@xn--mnchen-3ya.example", "@xn--mnchen-3ya.example", "a@xn--.example", "a@xn--zzzzzzzz.example",
		"#a@x.example", "#b@x.example", `"#"@x.example`} {
		if err := w.Add(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "# two\n# lines\n#\n" +
		"ann@x.example\tOK\n" + `"john doe"@x.example` + "\tOK\n" + `"a\"b"@x.example` + "\tOK\n" +
		"john..doe@x.example\tOK\njürgen@xn--mnchen-3ya.example\tOK\njürgen@münchen.example\tOK\n" +
		"@xn--mnchen-3ya.example\tOK\n@münchen.example\tOK\n" +
		"a@xn--.example\tOK\na@xn--zzzzzzzz.example\tOK\n" + `"#"@x.example` + "\tOK\n" +
		"# omitted because a line that begins with # is a comment: #a@x.example, #b@x.example\n"
	if out.String() != want || w.Entries() != 9 {
		t.Errorf("%d entries\n%s\nwant\n%s", w.Entries(), &out, want)
	}
}

// FuzzWriter: what was read is written so that it is read again.
func FuzzWriter(f *testing.F) {
	for _, text := range []string{"ann@x.example\n@y", `"a b"@c`, "#", "a@xn--mnchen-3ya", "\\#a@b", `"\""@[1.2.3.4]`,
		"ß@x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		var out strings.Builder
		w := NewWriter(&out)
		unfit := 0
		for key := range table.All() {
			if key[0] == '#' {
				unfit++
			}
			w.Add(key)
		}
		w.Flush()
		again := mustRead(t, out.String())
		if _, bad := again.Problems(); bad > 0 || again.Len() != table.Len()-unfit {
			t.Fatalf("%q was written as %q, which has %d entries and %d problems", text, &out, again.Len(), bad)
		}
		for key := range table.All() {
			if key[0] != '#' && !again.Has(key) {
				t.Fatalf("%q was written as %q, which lacks %q", text, &out, key)
			}
		}
	})
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "table")
	write := func(text string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}
	look := func(what, text string, mode os.FileMode) {
		t.Helper()
		got, err := os.ReadFile(path)
		info, err2 := os.Stat(path)
		if err != nil || err2 != nil || string(got) != text || info.Mode().Perm() != mode {
			t.Errorf("%s: %q, %v, %v, %v; want %q with %v", what, got, info.Mode(), err, err2, text, mode)
		}
		if all, _ := os.ReadDir(dir); len(all) > 2 {
			t.Errorf("%s: files are left: %v", what, all)
		}
	}
	if err := Replace(path, write("one")); err != nil {
		t.Fatal(err)
	}
	look("a new file", "one", 0o644)
	os.Chmod(path, 0o640)
	if err := Replace(path, write("two")); err != nil {
		t.Fatal(err)
	}
	look("replaced", "two", 0o640)
	broken := errors.New("broken")
	breakOff := func(w io.Writer) error { io.WriteString(w, "th"); return broken }
	if err := Replace(path, breakOff); !errors.Is(err, broken) {
		t.Errorf("Replace: %v", err)
	}
	look("not replaced", "two", 0o640)
	link := filepath.Join(dir, "link")
	os.Symlink(path, link)
	if err := Replace(link, write("four")); err != nil {
		t.Fatal(err)
	}
	look("through a link", "four", 0o640)
	if target, err := os.Readlink(link); err != nil || target != path {
		t.Errorf("the link is %q, %v", target, err)
	}
	if err := Replace(dir, write("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if err := Replace(filepath.Join(dir, "none", "table"), write("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Replace in no directory: %v", err)
	}
}
