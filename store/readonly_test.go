package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// files lists the content of a directory, with sizes and times.
func filesOf(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Name()+" "+info.ModTime().String())
	}
	return all
}

// TestReadOnly: several readers at a time can read a closed store without a trace, but not
// during a writer.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"))
	if _, err := Open(t.Context(), Config{Dir: dir, ReadOnly: true}); !errors.Is(err, ErrLocked) {
		t.Fatalf("beside a writer: %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, dir)
	one := open(t, Config{Dir: dir, ReadOnly: true, MinFree: 1 << 62})
	two := open(t, Config{Dir: dir, ReadOnly: true})
	for _, r := range []*Store{one, two} {
		wantKnown(t, r, "a@x.test", "b@x.test")
		if got := r.Totals(); got.Addresses != 2 || r.Directory("corp").LastFull.Number != 1 {
			t.Errorf("totals %+v", got)
		}
		if err := r.Recount(); err != nil {
			t.Error(err)
		}
		if err := r.PutRefusals(NewRefusals(start)); !errors.Is(err, ErrReadOnly) {
			t.Errorf("writing: %v, want ErrReading", err)
		}
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("a writer beside readers: %v, want ErrLocked", err)
	}
	for _, r := range []*Store{one, two} {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := filesOf(t, dir); !slices.Equal(after, before) {
		t.Errorf("reading changed the directory:\n%q\n%q", before, after)
	}
}

// TestReadOnlyNeedsCleanShutdown: only a writer can recover a store that was not closed cleanly.
func TestReadOnlyNeedsCleanShutdown(t *testing.T) {
	if _, err := Open(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "none"), ReadOnly: true}); !errors.Is(err,
		ErrMissing) {
		t.Errorf("no store: %v, want ErrMissing", err)
	}
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	killed := t.TempDir() // as a killed process leaves it
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: killed, ReadOnly: true}); !errors.Is(err, ErrUnclean) {
		t.Errorf("after a kill: %v, want ErrUnclean", err)
	}
	s = reopen(t, s)
	p, err := s.Begin("corp", Incremental, Origin{Started: start.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantKnown(t, open(t, Config{Dir: dir, ReadOnly: true}), "a@x.test")
}

// TestReadOnlyOfADecidedPass: a store with an incomplete release cannot be read.
func TestReadOnlyOfADecidedPass(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	redo := redoRecord{info: PassInfo{Number: 2, Directory: "corp"}}
	if err := s.write(func(tx *tx) error {
		return tx.set(dirKey(prefixRedo, s.state.dirs["corp"].record.id),
			redo.encode())
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir, ReadOnly: true}); !errors.Is(err, ErrUnclean) {
		t.Errorf("with a decided pass: %v, want ErrUnclean", err)
	}
}
