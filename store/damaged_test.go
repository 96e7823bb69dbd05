package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiskFull(t *testing.T) {
	free := uint64(1 << 30)
	s := open(t, Config{Dir: t.TempDir(), MinFree: 1 << 20,
		FreeSpace: func(string) (uint64, error) { return free, nil }})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	free = 1 << 19
	p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 2, "b@x.test")}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a batch on a full disk: %v", err)
	}
	p.Abort()
	wantKnown(t, s, "a@x.test")
	free = 1 << 30
	pass(t, s, "corp", Incremental, start, "", object(t, 2, "b@x.test"))
	wantKnown(t, s, "a@x.test", "b@x.test")
}

// damage flips bits in the middle of every table file.
func damage(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table files in %s: %v", dir, err)
	}
	for _, name := range tables {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		if _, err := f.ReadAt(b, 64); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= 0xff
		}
		if _, err := f.WriteAt(b, 64); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

func TestDamagedTable(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": testKey(32)} {
		t.Run(name, func(t *testing.T) { damagedTable(t, key) })
	}
}

func damagedTable(t *testing.T, key []byte) {
	// The cache must not keep blocks that were sound when they were read.
	s := open(t, Config{Dir: t.TempDir(), Key: key, blockCache: 1})
	var objects []Object
	for i := range 200 {
		objects = append(objects, object(t, byte(i), fmt.Sprintf("user%d@x.test", i)))
	}
	pass(t, s, "corp", Full, start, "", objects...)
	s = reopen(t, s) // closing writes the tables
	if err := s.Verify(); err != nil {
		t.Fatalf("a sound store: %v", err)
	}
	damage(t, s.config.Dir)
	if err := s.Verify(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("verification of a damaged store: %v", err)
	}
	for i := range 200 {
		got, err := s.Lookup(mustParse(t, fmt.Sprintf("user%d@x.test", i)))
		if !got.Known && err == nil {
			t.Fatalf("a damaged store says of user%d that it is unknown", i)
		}
	}
	if _, err := s.Lookup(mustParse(t, "never@x.test")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a miss in a damaged store: %v", err)
	}
	s.Close()
	if _, err := Open(context.Background(), s.config); !errors.Is(err, ErrDamaged) ||
		!strings.Contains(err.Error(), "move its directory away") {
		t.Errorf("opening a damaged store: %v", err)
	}
}

// TestUnfinishedTable: a process that is killed while it writes a table leaves a file, empty or
// partial, that nothing refers to yet.
func TestUnfinishedTable(t *testing.T) {
	for name, content := range map[string][]byte{"empty": nil, "in part": bytes.Repeat([]byte{0x5a}, 5000)} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.config.Dir, "000099.sst"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, s.config)
			wantKnown(t, s, "a@x.test")
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEmptyLog: a process that is killed while it opens the store, or begins another log, leaves
// an empty file.
func TestEmptyLog(t *testing.T) {
	for _, name := range []string{"00099.mem", "000099.vlog", "DISCARD"} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // and again, over what the first time leaves
				if err := os.WriteFile(filepath.Join(s.config.Dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				s = open(t, s.config)
				wantKnown(t, s, "a@x.test")
				if err := errors.Join(s.Verify(), s.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestDamagedManifest: without the manifest it is unknown which files belong to the store.
func TestDamagedManifest(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	s.Close()
	if err := os.WriteFile(filepath.Join(s.config.Dir, "MANIFEST"), []byte("not a manifest"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), s.config)
	if !errors.Is(err, ErrDamaged) || strings.Contains(err.Error(), "\n") {
		t.Errorf("opening it: %v", err)
	}
}
