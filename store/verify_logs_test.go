package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written returns how many bytes of a log are in use. The rest of the file is zero.
func written(t *testing.T, path string) int64 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := len(data)
	for n > 0 && data[n-1] == 0 {
		n--
	}
	return int64(n)
}

// onlyFile returns the file of a pattern with the most bytes in use.
func onlyFile(t *testing.T, dir, pattern string) (path string, size int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	for _, f := range files {
		if n := written(t, f); n >= size {
			path, size = f, n
		}
	}
	return path, size
}

// TestFlippedLogs: one bit changes in a log that Badger would replay at the next opening, or in
// a value that is too large for a table.
func TestFlippedLogs(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": testKey(32)} {
		for _, pattern := range []string{"*.mem", "*.vlog"} {
			t.Run(name+" "+pattern, func(t *testing.T) {
				s := open(t, Config{Dir: t.TempDir(), Key: key})
				big := Object{GUID: GUID{9}, DN: "CN=" + strings.Repeat("x", 1<<20), Container: true}
				pass(t, s, "corp", Full, start, "", append(employees(t, 0, 300), big)...)
				if err := s.Verify(); err != nil {
					t.Fatal(err)
				}
				path, size := onlyFile(t, s.config.Dir, pattern)
				if size < 1<<15 {
					t.Fatalf("%s has only %d bytes: this shows nothing", path, size)
				}
				r := rand.New(rand.NewPCG(1, 1))
				for range *verifications {
					at, bit := logHeader+r.Int64N(size-logHeader), r.IntN(8)
					what := flipAt(t, path, at, bit)
					if err := s.Verify(); !errors.Is(err, ErrDamaged) {
						t.Errorf("%s: %v", what, err)
					}
					flipAt(t, path, at, bit) // as it was
					s.damaged.Store(false)
				}
				if err := s.Verify(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestLogsBesideFlushes: a log that is flushed to a table while it is read is no damage.
func TestLogsBesideFlushes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "00001.mem")
	for _, c := range []struct {
		name    string
		content []byte
		want    bool
	}{
		{"empty", nil, true},
		{"a header", make([]byte, logHeader), true},
		{"zeros", make([]byte, 5000), true},
		{"a byte after zeros", append(make([]byte, 5000), 1), false},
		{"a wrong checksum", append(make([]byte, logHeader), 0, 0, 1, 1, 0, 'k', 'v', 1, 2, 3, 4), false},
		{"a truncated entry", append(make([]byte, logHeader), 64, 0, 0xff, 0xff), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := verifyLog(path); (err == nil) != c.want {
				t.Error(err)
			}
		})
	}
	if err := verifyLog(path + "gone"); err != nil {
		t.Error(fmt.Errorf("a log that is gone: %w", err))
	}
}
