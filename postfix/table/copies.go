package table

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"rcpt-milter/internal/files"
)

// Copies says where the last good copies of watched files are kept for the next start. The zero value keeps
// none.
type Copies struct {
	Dir      string                           // created with mode 0700; empty means that none are kept
	ReadOnly bool                             // copies are read, and not written
	MinFree  uint64                           // bytes that stay free on the file system of Dir
	Free     func(dir string) (uint64, error) // bytes that are free; nil means those of the file system
}

const (
	// retrySave is the time after which a copy that could not be written is written again.
	retrySave = time.Minute
	// slowSave is the time after which a copy that is still being written counts as not saved.
	slowSave = time.Minute
	// touchEvery is how often a copy is written if only the modification time of its file has changed. An older
	// time is safe: a start then doubts the copy of a file that it cannot use.
	touchEvery = time.Hour
)

// savedCopies writes and reads the copies on disk. One goroutine at a time writes; trouble never waits for it.
type savedCopies struct {
	Copies
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	files map[string]savedCopy // by the path of the file
	began time.Time            // when the present save began; zero: none runs
}

// savedCopy is what is known of the copy of a file on disk.
type savedCopy struct {
	known    bool    // there is a copy, with these properties:
	sum      bodySum // of its body
	whole    int     // watched.whole
	modified time.Time
	written  time.Time // zero: by an earlier process

	table   *Table    // the table in effect when the copy was compared with it
	seen    time.Time // the modification time then
	trouble string    // why that is not on disk; empty if it is
	retry   time.Time // when to write it again; zero: not before it changes
}

func newSavedCopies(config Config) *savedCopies {
	s := &savedCopies{Copies: config.Copies, log: config.Log, now: config.Now, files: map[string]savedCopy{}}
	if s.Free == nil {
		s.Free = files.FreeSpace
	}
	return s
}

// load returns the copy of a file. Without a copy, found is false.
func (s *savedCopies) load(file string) (w watched, found bool, err error) {
	if s.Dir == "" {
		return w, false, nil
	}
	w, sum, err := readCopy(s.Dir, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return w, false, nil
	case err != nil:
		return w, false, err
	}
	s.set(file, savedCopy{known: true, sum: sum, whole: w.whole, modified: w.modified, table: w.table,
		seen: w.modified})
	return w, true, nil
}

// save writes the copies of the files whose tables have changed. The copy of a file in doubt stays as it
// is: the next start must doubt the file as well. The last call does not put anything off.
func (s *savedCopies) save(all []watched, last bool) {
	if s.Dir == "" || s.ReadOnly {
		return
	}
	s.begin(s.now())
	defer s.begin(time.Time{})
	for _, w := range all {
		before := s.get(w.path)
		due := !before.retry.IsZero() && (last || !s.now().Before(before.retry))
		if w.doubt == (doubt{}) && (!before.has(w) || due) {
			s.set(w.path, s.saveOne(w, before, last))
		}
	}
}

// has reports whether a copy has been compared with a file as it is in effect.
func (c savedCopy) has(w watched) bool { return c.table == w.table && c.seen.Equal(w.modified) }

// saveOne writes the copy of a file unless that on disk has the same content.
func (s *savedCopies) saveOne(w watched, before savedCopy, last bool) savedCopy {
	sum, size := w.table.sumBody()
	next := savedCopy{known: true, sum: sum, whole: w.whole, modified: w.modified, written: s.now(), table: w.table,
		seen: w.modified}
	if before.known && before.sum == sum && before.whole == w.whole && HasCopy(s.Dir, w.path) {
		before.table, before.seen, before.retry = w.table, w.modified, time.Time{}
		if before.modified.Equal(w.modified) {
			return before
		}
		if before.retry = before.written.Add(touchEvery); !last && s.now().Before(before.retry) {
			return before
		}
	}
	err := s.makeRoom(uint64(size))
	if err == nil {
		err = writeCopy(s.Dir, w, sum, size)
	}
	if err == nil {
		return next
	}
	next.known, next.trouble, next.retry = false, err.Error(), s.now().Add(retrySave)
	if next.trouble != before.trouble {
		s.log.Error("cannot write the copy of an accept file; the next start would use an older one", "file", w.path,
			"error", err)
	}
	return next
}

// makeRoom creates the directory of the copies, and returns an error if the disk has too little space.
func (s *savedCopies) makeRoom(size uint64) error {
	if err := os.Mkdir(s.Dir, 0o700); err == nil {
		if err := files.SyncDir(filepath.Dir(s.Dir)); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	free, err := s.Free(s.Dir)
	if err == nil && free < s.MinFree+size {
		err = fmt.Errorf(
			"%s: too little disk space: %d MiB are free, %d MiB are required; free space on that file system",
			s.Dir, free>>20, (s.MinFree+size)>>20)
	}
	return err
}

// keepOnly removes the copies of all other files.
func (s *savedCopies) keepOnly(all []watched) {
	if s.Dir == "" || s.ReadOnly {
		return
	}
	keep := map[string]bool{}
	for _, w := range all {
		keep[copyPath(s.Dir, w.path)] = true
	}
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, e := range entries {
		path := filepath.Join(s.Dir, e.Name())
		if isCopyName(e.Name()) && !keep[path] {
			err = errors.Join(err, os.Remove(path))
		}
	}
	if err != nil {
		s.log.Warn("cannot remove copies of former accept files", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for file := range s.files {
		if !slices.ContainsFunc(all, func(w watched) bool { return w.path == file }) {
			delete(s.files, file)
		}
	}
}

// trouble returns why the copy of a file on disk is not that in effect; empty if it is, or if none is kept.
func (s *savedCopies) trouble(w watched) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.files[w.path]
	if c.trouble == "" && !s.began.IsZero() && s.now().Sub(s.began) > slowSave && !c.has(w) && w.doubt == (doubt{}) {
		return fmt.Sprintf("%s: the disk has not written the copies for more than %s; check the disk", s.Dir, slowSave)
	}
	return c.trouble
}

// begin records when a save began, or that none runs.
func (s *savedCopies) begin(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = at
}

func (s *savedCopies) get(file string) savedCopy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[file]
}

func (s *savedCopies) set(file string, c savedCopy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[file] = c
}
