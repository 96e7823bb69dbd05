package table

import (
	"errors"
	"os"
	"testing"
)

// TestDoubtOfRestartEnds: a file that cannot be used at a start, and has changed since its copy, may have had any
// entry. The doubt lasts until the file can be read at rest, and the copy stays as it is.
func TestDoubtOfRestartEnds(t *testing.T) {
	w := newKept(t, map[string]string{"one": "ann@x.example OK\n"})
	first := w.copyInfo()
	w.write("one", "")
	for range 2 {
		w.restart()
		w.use(w.path("one"))
		w.use(w.path("one")) // a reload
		w.want("in doubt", "ann@x.example", "")
		if w.doubt() == "" || !os.SameFile(first, w.copyInfo()) {
			t.Fatalf("doubt %q, copy %v", w.doubt(), w.copyInfo())
		}
	}
	visited := 0
	w.tables.Modified("other.example", func(a FileAge) { visited++ })
	if visited != 1 {
		t.Error("a file in doubt may have named every domain")
	}
	w.write("one", "bob@x.example OK\n")
	w.tables.Pass()
	if w.doubt() == "" {
		t.Error("no doubt before the file is at rest")
	}
	w.want("at rest", "bob@x.example", "ann@x.example")
	if w.doubt() != "" || w.trouble() != "" || os.SameFile(first, w.copyInfo()) {
		t.Errorf("doubt %q, trouble %q", w.doubt(), w.trouble())
	}
}

// TestDoubtEndsDuringAReload: a look that reads a file at rest ends its doubt, although a reload prepared it before.
func TestDoubtEndsDuringAReload(t *testing.T) {
	w := newKept(t, map[string]string{"one": "ann@x.example OK\n"})
	w.write("one", "")
	w.restart()
	w.use(w.path("one"))
	p, err := w.tables.Prepare([]string{w.path("one")})
	if err != nil {
		t.Fatal(err)
	}
	w.write("one", "bob@x.example OK\n")
	w.want("at rest", "bob@x.example", "ann@x.example")
	w.tables.Use(p)
	w.knows("after the reload", "bob@x.example", "ann@x.example")
	if w.doubt() != "" {
		t.Errorf("doubt %s", w.doubt())
	}
}

// TestReadErrorIsRetried: a file that could not be read counts as changed, because it may never change again. The
// memory of a process is a regular file whose beginning cannot be read.
func TestReadErrorIsRetried(t *testing.T) {
	w := newKept(t, map[string]string{"one": "ann@x.example OK\n"})
	os.Remove(w.path("one"))
	if err := os.Symlink("/proc/self/mem", w.path("one")); err != nil {
		t.Fatal(err)
	}
	now, err := load(w.path("one"))
	if err == nil || errors.Is(err, ErrNotTable) || now.stamp != (stamp{}) {
		t.Errorf("stamp %+v, %v", now.stamp, err)
	}
}
