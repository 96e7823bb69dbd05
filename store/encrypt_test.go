package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testKey returns a key of a size.
func testKey(size int) []byte { return bytes.Repeat([]byte{byte(size)}, size) }

// TestEncryption: the files have no readable address, and everything else works as without a
// key.
func TestEncryption(t *testing.T) {
	for _, size := range []int{0, 16, 24, 32} {
		s := open(t, Config{Dir: t.TempDir(), Key: testKey(size)})
		var objects []Object
		for i := range 250 {
			objects = append(objects, object(t, byte(i), fmt.Sprintf("secret%d@hidden.test", i)))
		}
		pass(t, s, "corp", Full, start, "", objects...)
		for range 2 {
			s = reopen(t, s)
			if err := s.Verify(); err != nil {
				t.Errorf("with %d bytes: %v", size, err)
			}
			if got, err := s.Lookup(mustParse(t, "secret7@hidden.test")); err != nil || !got.Known {
				t.Errorf("with %d bytes: Lookup: %+v, %v", size, got, err)
			}
			if got, err := s.Lookup(mustParse(t, "never@hidden.test")); err != nil || got.Known {
				t.Errorf("with %d bytes: Lookup of a miss: %+v, %v", size, got, err)
			}
		}
		dir := s.config.Dir
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		plain := false
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if data, err := os.ReadFile(path); err == nil {
				plain = plain || bytes.Contains(data, []byte("secret7@hidden"))
			}
			return nil
		})
		if plain != (size == 0) {
			t.Errorf("with %d bytes: addresses can be read from the files: %v", size, plain)
		}
	}
}

// TestWrongKey: the error is one sentence, and the store is not changed.
func TestWrongKey(t *testing.T) {
	other := bytes.Repeat([]byte{9}, 32)
	for _, c := range []struct {
		name         string
		made, opened []byte
		want         string
	}{
		{"no key", testKey(32), nil, "the store is encrypted; set store.encryption_key_file to its key"},
		{"another key", testKey(32), other,
			"the store was made with another key; set"},
		{"a shorter key", testKey(32), testKey(16),
			"the store was made with another key; set"},
		{"a key for a plain store", nil, testKey(32),
			"the store was made without a key; remove store.encryption_key_file, or move its directory away"},
		{"an impossible key", nil, testKey(31), "the key has 31 bytes; AES requires 16, 24 or 32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir(), Key: c.made})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			wrong := s.config
			wrong.Key = c.opened
			for range 2 {
				_, err := Open(context.Background(), wrong)
				if !errors.Is(err, ErrWrongKey) || errors.Is(err, ErrDamaged) ||
					!strings.Contains(err.Error(), c.want) ||
					strings.Contains(err.Error(), "\n") {
					t.Errorf("%v, want %q", err, c.want)
				}
			}
			wantKnown(t, open(t, s.config), "a@x.test")
		})
	}
}
