package table

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

func TestWriter(t *testing.T) {
	var out strings.Builder
	w := NewWriter(&out)
	w.Comment("two\nlines\n")
	for _, key := range []string{"ann@x.example", `"john doe"@x.example`, `"a\"b"@x.example`, "john..doe@x.example",
		"jürgen@xn--mnchen-3ya.example", "@xn--mnchen-3ya.example", "a@xn--.example", "a@xn--zzzzzzzz.example",
		"#a@x.example", "#b@x.example", `"#"@x.example`, "*@x.example"} {
		if err := w.Add(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "# two\n# lines\n#\n" +
		"ann@x.example\tOK\n" + `"john doe"@x.example` + "\tOK\n" + `"a\"b"@x.example` + "\tOK\n" +
		"john..doe@x.example\tOK\njürgen@xn--mnchen-3ya.example\tOK\nju\u0308rgen@xn--mnchen-3ya.example\tOK\n" +
		"jürgen@münchen.example\tOK\nju\u0308rgen@münchen.example\tOK\n" +
		"jürgen@mu\u0308nchen.example\tOK\nju\u0308rgen@mu\u0308nchen.example\tOK\n" +
		"@xn--mnchen-3ya.example\tOK\n@münchen.example\tOK\n@mu\u0308nchen.example\tOK\n" +
		"a@xn--.example\tOK\na@xn--zzzzzzzz.example\tOK\n" + `"#"@x.example` + "\tOK\n" +
		"*@x.example\tOK\n" + `"*"@x.example` + "\tOK\n" +
		"# omitted because a table cannot hold them (a first #, or an invisible character): #a@x.example, " +
		"#b@x.example\n"
	if out.String() != want || w.Entries() != 10 {
		t.Errorf("%d entries\n%s\nwant\n%s", w.Entries(), &out, want)
	}
}

// FuzzWriter: the writer writes addresses in a form that reads back as the same address.
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
		held, wildcards := 0, 0 // an unquoted wildcard is for Postfix only
		for key := range table.All() {
			if key[0] != '#' {
				held++
			}
			if address.CheckEntry(key) != nil {
				wildcards++
			}
			w.Add(key)
		}
		w.Flush()
		again := mustRead(t, out.String())
		if _, bad := again.Problems(); bad != wildcards || again.Len() != held {
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
	for _, c := range []struct{ umask, want os.FileMode }{{0, 0o640}, {0o022, 0o640}, {0o077, 0o600}, {0o027, 0o640}} {
		os.Remove(path)
		before := syscall.Umask(int(c.umask))
		err := Replace(path, write("one"))
		syscall.Umask(before)
		if err != nil {
			t.Fatal(err)
		}
		look(fmt.Sprintf("a new file with umask %o", c.umask), "one", c.want)
	}
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

// TestReplaceHides: while a file is written, nobody reads it who cannot read the one that it
// replaces.
func TestReplaceHides(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	path := filepath.Join(dir, "table")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Replace(path, func(io.Writer) error {
		all, err := filepath.Glob(filepath.Join(dir, ".table.*"))
		if err != nil || len(all) != 1 {
			t.Fatalf("the files beside it are %q, %v", all, err)
		}
		info, err := os.Stat(all[0])
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("while it is written, the file has mode %o", info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWriterHidesNothing: no key changes how the rest of a table looks or what it means. Joiners
// that a script needs stay, because the address has them.
func TestWriterHidesNothing(t *testing.T) {
	hostile := []string{"a\u202eb@x.example", "a\u200bb@x.example", "\ufeffa@x.example", "a\u2066b\u2069@x.example",
		"a\nb@x.example", "a\x1b[2Jb@x.example", "a\u2028b@x.example"}
	const joined = "می\u200cخواهم@x.example"
	var out strings.Builder
	w := NewWriter(&out)
	for _, key := range append([]string{joined, "ann@x.example"}, hostile...) {
		if err := w.Add(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	entries, comment, _ := strings.Cut(out.String(), "#")
	if want := joined + "\tOK\nann@x.example\tOK\n"; entries != want || w.Entries() != 2 {
		t.Errorf("the entries are %q, want %q", entries, want)
	}
	if !text.IsPrintable(strings.TrimSuffix(comment, "\n")) || strings.Count(comment, "@x.example") != len(hostile) {
		t.Errorf("the comment is %q", comment)
	}
}

// TestWriterSpellings: Postfix finds every letter as a client may write it, composed or decomposed and in
// either case. Like Postfix, the test folds the case of both sides.
func TestWriterSpellings(t *testing.T) {
	fold := func(text string) string { return cases.Fold().String(text) }
	missing := 0
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) || unicode.Is(unicode.Cherokee, r) { // x/text does not fold Cherokee, and Postfix does
			continue
		}
		if unicode.Is(unicode.Hangul, r) && r%100 != 0 {
			continue // thousands that are alike
		}
		if text := string(r); fold(text) == text && norm.NFD.String(text) == text {
			continue // written in one way only
		}
		a, err := address.Parse("x" + string(r) + "@x.example")
		if err != nil {
			continue
		}
		var keys []string
		for _, text := range append(spellings(a.String()), a.String()) {
			if slices.Contains(keys, fold(text)) {
				t.Errorf("%U: postmap warns that %+q is there twice", r, text)
			}
			keys = append(keys, fold(text))
		}
		for _, letter := range []string{string(r), strings.ToUpper(string(r)), strings.ToLower(string(r))} {
			for _, client := range []string{norm.NFC.String(letter), norm.NFD.String(letter)} {
				text := "x" + client + "@x.example"
				if asked, err := address.Parse(text); err != nil || asked != a {
					continue // another address
				}
				if missing < 20 && !slices.Contains(keys, fold(text)) {
					missing++
					t.Errorf("%U: Postfix does not find %+q in %+q", r, fold(text), keys)
				}
			}
		}
	}
}

// TestWriterSpellingsReadBack: a spelling is one of the same key, whatever its letters decompose to.
func TestWriterSpellingsReadBack(t *testing.T) {
	for name, text := range map[string]string{"less than": "a\u226eb@x.example", "in quotes": "\"a b\u226e\"@x.example",
		"in both parts": "\u00e9@xn--mnchen-3ya.example", "a domain": "@xn--mnchen-3ya.example",
		"ASCII": "ann@x.example"} {
		t.Run(name, func(t *testing.T) {
			key, err := CanonicalKey(text)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			w := NewWriter(&out)
			w.Add(key)
			w.Flush()
			n := 0
			if err := EachKey(strings.NewReader(out.String()), func(again string) error {
				if n++; again != key {
					t.Errorf("%q reads back as %q", key, again)
				}
				return nil
			}); err != nil || n != 1 {
				t.Errorf("%d keys, %v, in\n%s", n, err, &out)
			}
		})
	}
}
