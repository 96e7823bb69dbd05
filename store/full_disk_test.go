package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFullDiskAtStart: without any space, the store answers and is not written, after a clean
// shutdown and after a kill. It is updated again when there is space.
func TestFullDiskAtStart(t *testing.T) {
	const n = 50
	closed := filledDir(t, nil, n)
	running := open(t, Config{Dir: copyOf(t, closed)})
	pass(t, running, "corp", Incremental, start.Add(time.Minute), "", object(t, 77, "late@corp.example"))
	for state, from := range map[string]string{"closed": closed, "killed": running.config.Dir} {
		t.Run(state, func(t *testing.T) {
			free := uint64(0)
			c := serving(copyOf(t, from))
			c.FreeSpace = func(string) (uint64, error) { return free, nil }
			before := usedBytes(t, c.Dir)
			s := open(t, c)
			if h := s.Health(); h.State != NotUpdated || !errors.Is(h.Err, ErrNoSpace) {
				t.Errorf("health %+v", h)
			}
			known := allOf(t, n)
			known["late@corp.example"] = state == "killed"
			for a, want := range known {
				if got, err := s.Lookup(mustParse(t, a)); err != nil || got.Known != want {
					t.Fatalf("%s: %+v, %v", a, got, err)
				}
			}
			if err := s.PutRefusals(NewRefusals(start)); !errors.Is(err, ErrNoSpace) {
				t.Errorf("writing: %v", err)
			}
			if _, err := s.Begin("corp", Full, Origin{Started: start}); !errors.Is(err, ErrNoSpace) {
				t.Errorf("a pass: %v", err)
			}
			if _, err := s.Secret(); err != nil && !errors.Is(err, ErrNoSpace) {
				t.Errorf("secret: %v", err)
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
			if after := usedBytes(t, c.Dir); after > before {
				t.Errorf("opening took %d bytes of disk", after-before)
			}
			free = 1 << 30
			rebuild(t, s, n)
			if h := s.Health(); h.State != Healthy || h.SetAside != "" {
				t.Errorf("health with space: %+v", h)
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
			checkSound(t, s)
		})
	}
}

// usedBytes returns how much of the files of a directory is not zero at their ends.
func usedBytes(t *testing.T, dir string) (n int) {
	t.Helper()
	for _, file := range storeFiles(t, dir) {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		n += len(strings.TrimRight(string(content), "\x00"))
	}
	return n
}

// TestFullDiskWithoutStore: without space and without a store, nothing is answered until there
// is space.
func TestFullDiskWithoutStore(t *testing.T) {
	free := uint64(0)
	c := serving(t.TempDir())
	c.FreeSpace = func(string) (uint64, error) { return free, nil }
	s := open(t, c)
	if _, err := s.Lookup(mustParse(t, "a@x.test")); !errors.Is(err, ErrNoSpace) || s.Health().State != Unreadable {
		t.Errorf("a lookup: %v, %+v", err, s.Health())
	}
	if s.Directory("corp").LastFull.Number != 0 || s.Totals().Addresses != 0 {
		t.Error("a store that is not open has something")
	}
	free = 1 << 30
	rebuild(t, s, 20)
	if s.Health().State != Healthy {
		t.Errorf("health with space: %+v", s.Health())
	}
}
