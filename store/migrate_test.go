package store

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// formatOne unpacks a store of the last version with format 1. It has two directories, held
// removals, one that waits, and half an object.
func formatOne(t *testing.T) string { return unpacked(t, "format1") }

// unpacked unpacks a store from testdata.
func unpacked(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantConverted checks that the store is complete.
func wantConverted(t *testing.T, s *Store) {
	t.Helper()
	wantKnown(t, s, "a@x.test", "b@x.test", "c@y.test", "!d@x.test", "e@x.test", "f@x.test", "orphan@x.test",
		"z@z.test")
	totals := s.Totals()
	if totals.Addresses != 8 || totals.Objects != 6 || totals.Domains["x.test"] != 6 ||
		totals.Digest != "08d617abacebb5129168b89486fc328c2329c6be0c83dd195b27067410239a5c" {
		t.Errorf("totals: %+v", totals)
	}
	if err := errors.Join(s.Recount(), digestsAgree(s)); err != nil {
		t.Error(err)
	}
	for dir, want := range map[string]string{"corp": "9b6c82564404f834c3418f044731a1f1 6 8",
		"lab": "8bf8912d435ad976dd03a11dc9d40a8f 1 2"} {
		t.Run(dir, func(t *testing.T) {
			d := mustDigest(t, s, dir)
			if got := fmt.Sprintf("%x %d %d", d.Sum, d.Objects, d.Addresses); got != want {
				t.Errorf("digest of directory %s: %s, want %s", dir, got, want)
			}
			if s.Directory(dir).Feed {
				t.Errorf("directory %s has a feed", dir)
			}
		})
	}
	corp, lab := s.Directory("corp"), s.Directory("lab")
	if corp.Marked != 5 || corp.Owned != 7 || lab.Owned != 2 || corp.Hold != "too many" ||
		corp.LastIncremental.Number != 6 ||
		corp.Controller != "dc2.corp.example" || string(corp.Cursor) != "cursor" {
		t.Errorf("directories: %+v, %+v", corp, lab)
	}
	var held []string
	err := s.HeldRemovals("corp", func(h HeldRemoval) error {
		held = append(held, fmt.Sprint(h.Address, h.GUID[15], h.Pass, h.Last))
		return nil
	})
	want := []string{"b@x.test 1 5 true", "c@y.test 2 5 true", "a@x.test 2 5 false",
		"d@x.test 3 6 true", "e@x.test 4 3 true", "f@x.test 5 5 true"}
	if d := cmp.Diff(want, held); err != nil || d != "" {
		t.Errorf("held: %v (-want +got):\n%s", err, d)
	}
	detail, err := s.Describe(mustParse(t, "b@x.test"))
	if err != nil || len(detail.Owners) != 1 || detail.Owners[0].Controller != "dc1.corp.example" ||
		!detail.Owners[0].Gone {
		t.Errorf("b@x.test: %+v, %v", detail, err)
	}
	if n, err := s.RemovedBetween("corp", start, s.config.Now()); n != 1 || err != nil {
		t.Errorf("removed since then: %d, %v, want 1", n, err)
	}
}

func TestOlderFormat(t *testing.T) {
	s := open(t, Config{Dir: formatOne(t)})
	for range 2 {
		wantConverted(t, s)
		s = reopen(t, s)
	}
	p, err := s.Begin("corp", Incremental,
		Origin{Controller: "dc1.corp.example", Database: "one", Started: start.Add(150 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Pending() // all but e@x.test, which waits until 15:00
	want := Pending{Owned: 5, Objects: 4, Last: map[string]int{"x.test": 3, "y.test": 1},
		Domains: map[string]DomainLoss{"x.test": {Owned: 4, Last: 3}, "y.test": {Owned: 1, Last: 1}}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("pending: %v (-want +got):\n%s", err, d)
	}
	p.Abort()
	info, err := approveHeld(s, "corp", 5, start.Add(3*time.Hour))
	if err != nil || info.Removed != 4 || info.Number != 8 {
		t.Errorf("approve: %+v, %v", info, err) // d@x.test is of pass 6, and e@x.test waits for the next pass
	}
	wantKnown(t, s, "a@x.test", "!d@x.test", "e@x.test", "orphan@x.test", "z@z.test")
	pass(t, s, "corp", Full, start.Add(4*time.Hour), "", object(t, 1, "a@x.test"), object(t, 3, "!d@x.test"))
	wantKnown(t, s, "a@x.test", "!d@x.test", "z@z.test")
	checkSound(t, s)
}

// TestOlderFormatReadOnly: a store of format 1 can be read without a conversion.
func TestOlderFormatReadOnly(t *testing.T) {
	dir := formatOne(t)
	before := filesOf(t, dir)
	s := open(t, Config{Dir: dir, ReadOnly: true})
	wantConverted(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := filesOf(t, dir); !slices.Equal(after, before) {
		t.Errorf("reading changed the directory:\n%q\n%q", before, after)
	}
}

// TestBrokenConversion: a conversion that a crash or a full disk interrupts starts again.
func TestBrokenConversion(t *testing.T) {
	for n := 1; ; n++ {
		dir, left := formatOne(t), n
		s, err := Open(t.Context(), Config{Dir: dir, MinFree: 1, FreeSpace: func(string) (uint64, error) {
			if left--; left < 0 {
				return 0, nil
			}
			return 1 << 30, nil
		}})
		if err == nil {
			s.Close()
			if n < 6 {
				t.Errorf("it took %d commits: this shows little", n-1)
			}
			return
		}
		if !errors.Is(err, ErrNoSpace) {
			t.Fatalf("after %d commits: %v", n-1, err)
		}
		s, err = Open(t.Context(), Config{Dir: dir, ReadOnly: true})
		switch {
		case n == 1 && err == nil: // nothing was written
			wantConverted(t, s)
			s.Close()
		case !errors.Is(err, ErrUnclean):
			t.Errorf("read after %d commits: %v, want ErrUnclean", n-1, err)
		}
		s = open(t, Config{Dir: dir})
		wantConverted(t, s)
		s.Close()
	}
}

// TestDecidedByAnOlderVersion: an older version released marks by their time. The next start
// releases a mark whose time had come, and not one that still waits.
func TestDecidedByAnOlderVersion(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	for i, at := range []time.Duration{time.Hour, 2 * time.Hour} { // by another controller
		pass(t, s, "corp", Incremental, start.Add(at-30*time.Minute), "") // the first one shows it still
		p, err := s.Begin("corp", Incremental, Origin{Controller: "dc2.corp.example", Started: start.Add(at),
			Lag: 12 * time.Hour, PreviousRead: start.Add(at)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Apply([]Object{object(t, byte(i+1))}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start.Add(at)}); err != nil {
			t.Fatal(err)
		}
	}
	redo := redoRecord{info: PassInfo{Number: 9, Directory: "corp", Started: start.Add(13 * time.Hour), Removed: 1}}
	err := s.write(func(tx *tx) error {
		return tx.set(dirKey(prefixRedo, s.state.dirs["corp"].record.id), redo.encode())
	})
	if err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s)
	wantKnown(t, s, "b@x.test")
	checkSound(t, s)
}
