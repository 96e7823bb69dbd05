package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFormerLogs: a process of an earlier version was killed and left the log of a memory table that is larger
// than those of this version. The store opens, and again after a kill during that.
func TestFormerLogs(t *testing.T) {
	const people = 22_000
	s := open(t, Config{Dir: t.TempDir(), memTable: formerMemTableSize})
	p, err := s.Begin("corp", Full, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < people; i += 500 {
		if _, err := p.Apply(employees(t, i, i+500)); err != nil {
			t.Fatal(err)
		}
	}
	addresses := s.Totals().Addresses
	killed := copyOfRunning(t, s)
	log := largestLog(t, killed)
	if end, err := endOfLog(log); err != nil || end < memTableSize {
		t.Fatalf("the log has %d bytes (%v), the test needs more than %d", end, err, memTableSize)
	}
	trimmed := copyOf(t, killed)
	if err := trimLogs(trimmed); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"killed": killed, "killed while it was opened": trimmed} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: dir})
			if n := s.Totals().Addresses; n != addresses {
				t.Errorf("%d addresses, want %d", n, addresses)
			}
			pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 1, "a@x.test"))
			s = reopen(t, s)
			if size := s.db.Opts().MemTableSize; size != memTableSize {
				t.Errorf("memory tables of %d bytes after a clean shutdown, want %d", size, memTableSize)
			}
			checkSound(t, s)
		})
	}
}

// largestLog returns the log of a memory table that takes most of the disk.
func largestLog(t *testing.T, dir string) (largest string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	var most int64
	for _, log := range logs {
		if end, err := endOfLog(log); err == nil && end > most {
			largest, most = log, end
		}
	}
	return largest
}

// TestMemTableFor: only logs of this version allow small memory tables.
func TestMemTableFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		sizes []int64
		want  int64
	}{
		{"no log", nil, memTableSize},
		{"of this version", []int64{2 * memTableSize, 2 * memTableSize}, memTableSize},
		{"of an earlier version", []int64{2 * memTableSize, 2 * formerMemTableSize}, formerMemTableSize},
		{"cut", []int64{memTableSize}, formerMemTableSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, size := range c.sizes {
				log := filepath.Join(dir, fmt.Sprintf("%05d.mem", i))
				if err := os.WriteFile(log, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(log, size); err != nil {
					t.Fatal(err)
				}
			}
			got, err := memTableFor(Config{Dir: dir, memTable: memTableSize})
			if err != nil || got != c.want {
				t.Errorf("%d, %v, want %d", got, err, c.want)
			}
		})
	}
}
