package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// serving returns the configuration of a store that a daemon opens.
func serving(dir string) Config {
	return Config{Dir: dir, Rebuild: true, KeepAnswering: true, MinFree: 1, settle: time.Nanosecond,
		FreeSpace: func(string) (uint64, error) { return 1 << 30, nil }}
}

// copyOf copies the directory of a store, also of a running one: what a kill leaves.
func copyOf(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// allOf returns the addresses of some employees.
func allOf(t *testing.T, n int) map[string]bool {
	known := map[string]bool{}
	for _, o := range employees(t, 0, n) {
		for _, a := range o.Addresses {
			known[a.Address.String()] = true
		}
	}
	return known
}

// wantNoFalseMiss: no known address is unknown, unless the state of the directory says that
// misses do not count.
func wantNoFalseMiss(t *testing.T, s *Store, known map[string]bool) {
	t.Helper()
	lost := ""
	for a := range known {
		if got, err := s.Lookup(mustParse(t, a)); err == nil && !got.Known {
			lost = a
		}
	}
	for _, dir := range []string{"corp", "lab"} {
		if d := s.Directory(dir); lost != "" && d.LastFull.Number != 0 && d.Doubt == "" {
			t.Errorf("%s is unknown, although directory %s was read and is not in doubt", lost, dir)
		}
	}
}

// damages are the ways in which a file may be lost.
var damages = map[string]func(t *testing.T, path string){
	"missing": func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	},
	"empty":     func(t *testing.T, path string) { cut(t, path, 0) },
	"truncated": func(t *testing.T, path string) { cut(t, path, 2) },
	"flipped in the middle": func(t *testing.T, path string) {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			flipAt(t, path, min(info.Size()/2, 400), 3)
		}
	},
}

// cut truncates the used part of a file to one in so many; 0 means to nothing.
func cut(t *testing.T, path string, part int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	if part > 0 {
		size = len(strings.TrimRight(string(content), "\x00")) / part
	}
	if err := os.Truncate(path, int64(size)); err != nil {
		t.Fatal(err)
	}
}

// storeFiles lists the files of a store.
func storeFiles(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if belongsToStore(e.Name()) {
			all = append(all, e.Name())
		}
	}
	return all
}

// rebuild runs the full passes that follow damage.
func rebuild(t *testing.T, s *Store, n int) {
	t.Helper()
	pass(t, s, "corp", Full, start.Add(time.Hour), "", employees(t, 0, n)...)
	pass(t, s, "lab", Full, start.Add(time.Hour), "", employees(t, n-10, n+10)...)
}

// TestEveryFileDamagedAtStart: whatever file is lost or changed, in a store that was closed and
// in one that was killed: with rebuild the store opens, no known address is unknown before the
// next full pass, and that pass ends equal to the directory.
func TestEveryFileDamagedAtStart(t *testing.T) {
	const n = 60
	closed := filledDir(t, nil, n)
	running := open(t, Config{Dir: copyOf(t, closed)})
	pass(t, running, "corp", Full, start.Add(time.Minute), "", employees(t, 0, n)...)
	pass(t, running, "corp", Incremental, start.Add(time.Minute), "", object(t, 77, "late@corp.example"))
	for state, from := range map[string]string{"closed": closed, "killed": copyOf(t, running.config.Dir)} {
		known := allOf(t, n)
		if state == "killed" {
			known["late@corp.example"] = true
		}
		for i, file := range storeFiles(t, from) {
			for j, what := range slices.Sorted(maps.Keys(damages)) {
				if !*everyCommit && (i+j)%3 != 0 {
					continue
				}
				t.Run(state+" "+file+" "+what, func(t *testing.T) {
					t.Parallel()
					damage := damages[what]
					dir := copyOf(t, from)
					damage(t, filepath.Join(dir, file))
					s := open(t, serving(dir))
					h := s.Health()
					t.Logf("%v, set aside: %t, doubt: %q, owned: %d", h.State, h.SetAside != "",
						s.Directory("corp").Doubt, s.Directory("corp").Owned)
					wantNoFalseMiss(t, s, known)
					rebuild(t, s, n)
					if err := s.Verify(); err != nil {
						t.Error(err)
					}
					checkSound(t, s)
					if d := s.Directory("corp"); d.Doubt != "" || s.Health().State != Healthy {
						t.Errorf("after a full pass: %q, %+v", d.Doubt, s.Health())
					}
					for a := range allOf(t, n) {
						if got, err := s.Lookup(mustParse(t, a)); err != nil || !got.Known {
							t.Errorf("after a full pass %s: %+v, %v", a, got, err)
						}
					}
				})
			}
		}
	}
}

// TestEveryFileDamagedWhileRunning: a file is lost while the store is open, which makes a read
// through a memory map fault. The process goes on, no known address is unknown, and the next
// passes build a new store.
func TestEveryFileDamagedWhileRunning(t *testing.T) {
	const n = 200
	from := filledDir(t, nil, n)
	for _, file := range storeFiles(t, from) {
		if filepath.Ext(file) == ".vlog" { // not read while it runs
			continue
		}
		for what, damage := range damages {
			t.Run(file+" "+what, func(t *testing.T) {
				t.Parallel()
				c := serving(copyOf(t, from))
				c.blockCache = 1
				s := open(t, c)
				damage(t, filepath.Join(c.Dir, file))
				wantNoFalseMiss(t, s, allOf(t, n))
				verified := s.Verify()
				if verified != nil && !errors.Is(verified, ErrDamaged) {
					t.Errorf("verification: %v", verified)
				}
				if filepath.Ext(file) == ".sst" && verified == nil {
					t.Error("a verification does not find the damage")
				}
				wantNoFalseMiss(t, s, allOf(t, n))
				if s.Health().State == Damaged {
					rebuild(t, s, n)
					if h := s.Health(); h.State != Healthy || h.SetAside == "" {
						t.Errorf("after the passes: %+v", h)
					}
				}
				for a := range allOf(t, n) {
					if got, err := s.Lookup(mustParse(t, a)); err != nil || !got.Known {
						t.Fatalf("in the end %s: %+v, %v", a, got, err)
					}
				}
				checkSound(t, s)
			})
		}
	}
}

// TestUnreadableBlock: a read of a block that is gone is an error, not the end of the process.
func TestUnreadableBlock(t *testing.T) {
	const n = 300
	c := Config{Dir: filledDir(t, nil, n), blockCache: 1}
	s := open(t, c)
	for _, table := range s.db.Tables() {
		if err := os.Truncate(filepath.Join(c.Dir, fmt.Sprintf("%06d.sst", table.ID)), 0); err != nil {
			t.Fatal(err)
		}
	}
	for range spotCheckEvery/n + 1 {
		for a := range allOf(t, n) { // memory answers, and a spot check notices
			if got, err := s.Lookup(mustParse(t, a)); err != nil || !got.Known {
				t.Fatalf("%s: %+v, %v", a, got, err)
			}
		}
	}
	failed := 0
	for a := range allOf(t, n) {
		got, err := s.addressRecord(a)
		if err != nil && !errors.Is(err, ErrDamaged) || err == nil && !got.known() {
			t.Fatalf("%s: %+v, %v", a, got, err)
		}
		if err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no read failed: this shows nothing")
	}
	if h := s.Health(); h.State != Damaged || !errors.Is(h.Err, ErrDamaged) {
		t.Errorf("health %+v", h)
	}
	if _, err := s.Begin("corp", Full, Origin{Controller: "dc1", Started: start}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a pass without rebuild: %v", err)
	}
}

// TestRebuildWaitsForPasses: the store is not set aside under a pass of another directory.
func TestRebuildWaitsForPasses(t *testing.T) {
	s := open(t, serving(filledDir(t, nil, 50)))
	lab, err := s.Begin("lab", Incremental, Origin{Controller: "dc1", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	s.markDamaged(errors.New("checksum mismatch"))
	if _, err := s.Begin("corp", Full, Origin{Controller: "dc1", Started: start}); err == nil ||
		s.Health().SetAside != "" {
		t.Fatalf("a pass of corp: %v, %+v", err, s.Health())
	}
	if _, err := lab.Apply([]Object{object(t, 1, "new@x.test")}); !errors.Is(err, ErrDamaged) {
		t.Errorf("writing to a damaged store: %v", err)
	}
	lab.Abort()
	rebuild(t, s, 50)
	if h := s.Health(); h.State != Healthy || h.SetAside == "" {
		t.Errorf("health %+v", h)
	}
}

// TestRebuildDoesNotLoop: a store that is damaged a third time within an hour stays, and answers
// what it finds; an hour later it is rebuilt again. At most two old stores are kept.
func TestRebuildDoesNotLoop(t *testing.T) {
	now := start
	c := serving(filledDir(t, nil, 50))
	c.Now = func() time.Time { return now }
	s := open(t, c)
	for i := range 3 {
		s.markDamaged(fmt.Errorf("checksum mismatch %d", i))
		p, err := s.Begin("corp", Full, Origin{Controller: "dc1", Started: now})
		if i == 2 {
			if !errors.Is(err, ErrRebuiltTooOften) {
				t.Fatalf("the third time: %v", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Abort()
		pass(t, s, "corp", Full, now, "", employees(t, 0, 50)...)
		now = now.Add(10 * time.Minute)
	}
	if got, err := s.Lookup(mustParse(t, "u1@corp.example")); err != nil || !got.Known {
		t.Errorf("a known address: %+v, %v", got, err)
	}
	if got, err := s.Lookup(mustParse(t, "none@corp.example")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a miss: %+v, %v", got, err)
	}
	if h := s.Health(); h.State != Damaged || !errors.Is(h.Err, ErrRebuiltTooOften) {
		t.Errorf("health %+v", h)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// After a restart the files are read again, and their damage is found if it is there.
	cut(t, filepath.Join(c.Dir, "MANIFEST"), 2)
	s = open(t, c)
	if _, err := s.Lookup(mustParse(t, "u1@corp.example")); !errors.Is(err, ErrDamaged) {
		t.Errorf("a lookup after a restart: %v", err)
	}
	if h := s.Health(); h.State != Unreadable || !errors.Is(h.Err, ErrRebuiltTooOften) {
		t.Errorf("health after a restart: %+v", h)
	}
	if _, err := s.Begin("corp", Full, Origin{Controller: "dc1", Started: now}); !errors.Is(err, ErrRebuiltTooOften) {
		t.Errorf("a pass after a restart: %v", err)
	}
	s.Close()
	now = now.Add(2 * time.Hour)
	s = open(t, c)
	rebuild(t, s, 50)
	all, err := listAside(c.Dir, false)
	if err != nil || len(all) != asideKept {
		t.Errorf("%d old stores are kept: %v", len(all), err)
	}
}

// TestDamagedWithoutRebuild: the store is not touched.
func TestDamagedWithoutRebuild(t *testing.T) {
	c := serving(filledDir(t, nil, 50))
	c.Rebuild = false
	cut(t, filepath.Join(c.Dir, "MANIFEST"), 2)
	before := filesOf(t, c.Dir)
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrDamaged) {
		t.Errorf("opening: %v", err)
	}
	if after := filesOf(t, c.Dir); !slices.Equal(after, before) {
		t.Errorf("opening changed the directory:\n%q\n%q", before, after)
	}
}

// TestInterruptedSetAside: a crash while files move leaves no half of a store behind.
func TestInterruptedSetAside(t *testing.T) {
	c := serving(filledDir(t, nil, 50))
	moved := filepath.Join(c.Dir, asidePrefix+start.Format(asideTime))
	if err := os.Mkdir(moved+asideUnfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(c.Dir, "MANIFEST"),
		filepath.Join(moved+asideUnfinished, "MANIFEST")); err != nil {
		t.Fatal(err)
	}
	s := open(t, c)
	if s.Health().SetAside != moved || s.Totals().Addresses != 0 {
		t.Errorf("%+v, %+v", s.Health(), s.Totals())
	}
	if got := storeFiles(t, moved); len(got) < 5 {
		t.Errorf("only %q was moved", got)
	}
}

// TestOnlyAReadSetsAside checks that a damaged store answers what it has until a pass reads a controller: that of a
// directory which left the configuration, an approval and a discard have nothing to build a new store from.
func TestOnlyAReadSetsAside(t *testing.T) {
	s := open(t, serving(t.TempDir()))
	ann := object(t, 1, "ann@x.test")
	pass(t, s, "corp", Full, start, "", ann)
	pass(t, s, "lab", Full, start, "", object(t, 2, "bob@x.test"))
	pass(t, s, "lab", Full, start.Add(time.Minute), "too many")
	s.markDamaged(errors.New("a test"))
	retired := func() error {
		p, err := s.Begin("lab", Full, Origin{Database: "retired", Started: start.Add(time.Hour)})
		if err != nil {
			return err
		}
		defer p.Abort()
		if err := p.Sweep(); err != nil {
			return err
		}
		_, err = p.Commit(Outcome{Fingerprint: "retired", Ended: start.Add(time.Hour)})
		return err
	}
	for name, run := range map[string]func() error{
		"a directory that left": retired,
		"an approval":           func() error { _, err := approveHeld(s, "lab", 9, start.Add(time.Hour)); return err },
		"a discard":             func() error { _, err := s.Discard("lab", start.Add(time.Hour)); return err },
	} {
		if err := run(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", name, err, ErrDamaged)
		}
		for _, a := range []string{"ann@x.test", "bob@x.test"} {
			if got, err := s.Lookup(mustParse(t, a)); err != nil || !got.Known {
				t.Errorf("%s after %s: %+v, %v", a, name, got, err)
			}
		}
	}
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "", ann)
	if s.damaged.Load() || len(s.Directories()) != 1 {
		t.Errorf("after a pass that reads: damaged %t, directories %q", s.damaged.Load(), s.Directories())
	}
	wantKnown(t, s, "ann@x.test")
}
