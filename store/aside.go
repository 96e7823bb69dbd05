package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	dirfiles "rcpt-milter/internal/files" // tests have a function files
)

// A damaged store is set aside: its files move to a subdirectory of the store's directory, which
// is the only place where the daemon may write for sure. The subdirectory is named after the
// time. A name that ends in asideUnfinished marks a move that has not ended; the next opening
// completes it, because Badger would read the files that are left as part of a new store.
const (
	asidePrefix     = "damaged-"
	asideUnfinished = ".moving"
	asideTime       = "20060102T150405.000Z"
)

const (
	asideKept  = 2 // number of damaged stores that are kept: the newest
	asideLimit = 2 // how many times a store may be set aside within asideEvery
	asideEvery = time.Hour
)

// ErrRebuiltTooOften means that the store was set aside several times within an hour, so it is
// not set aside once more.
var ErrRebuiltTooOften = errors.New("the store was damaged again shortly after it had been rebuilt")

// belongsToStore reports whether a file of the store's directory is part of the store. The lock
// is not.
func belongsToStore(name string) bool {
	switch name {
	case "MANIFEST", "MANIFEST-REWRITE", "KEYREGISTRY", "REWRITE-KEYREGISTRY", "DISCARD", commitFileName:
		return true
	}
	return slices.Contains([]string{".sst", ".mem", ".vlog"}, filepath.Ext(name))
}

// asideName is a parsed name of a store that was set aside.
type asideName struct {
	name string
	at   time.Time
}

// listAside lists the stores that were set aside, oldest first. With unfinished, it lists those
// whose move has not ended instead.
func listAside(dir string, unfinished bool) ([]asideName, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []asideName
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), asidePrefix)
		text, moving := strings.CutSuffix(text, asideUnfinished)
		at, err := time.Parse(asideTime, text)
		if ok && moving == unfinished && err == nil && e.IsDir() {
			all = append(all, asideName{e.Name(), at})
		}
	}
	slices.SortStableFunc(all, func(a, b asideName) int { return a.at.Compare(b.at) })
	return all, nil
}

// newestAside returns the directory of the newest store that was set aside and is still there. Empty
// means none.
func (s *Store) newestAside() string {
	all, err := listAside(s.config.Dir, false)
	if err != nil || len(all) == 0 {
		return ""
	}
	return filepath.Join(s.config.Dir, all[len(all)-1].name)
}

// checkAsideLimit returns ErrRebuiltTooOften if the store may not be set aside once more.
func checkAsideLimit(dir string, now time.Time) error {
	before, err := listAside(dir, false)
	if err != nil {
		return err
	}
	recent := 0
	for _, b := range before {
		if now.Sub(b.at).Abs() < asideEvery { // the clock may have been set back
			recent++
		}
	}
	if recent >= asideLimit {
		return fmt.Errorf("%w; check the disk and the memory of this machine, remove %s and restart the daemon",
			ErrRebuiltTooOften, filepath.Join(dir, asidePrefix+"*"))
	}
	return nil
}

// setAside moves the files of a damaged store away and returns where they are now. No process
// may have them open.
func setAside(dir string, now time.Time) (string, error) {
	if err := checkAsideLimit(dir, now); err != nil {
		return "", err
	}
	name := asidePrefix + now.UTC().Format(asideTime)
	if err := os.Mkdir(filepath.Join(dir, name+asideUnfinished), 0o700); err != nil {
		return "", err
	}
	if err := finishSetAside(dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, name), dropOldAside(dir)
}

// dropOldAside deletes all but the newest stores that were set aside.
func dropOldAside(dir string) error {
	all, err := listAside(dir, false)
	if err != nil {
		return err
	}
	for ; len(all) > asideKept; all = all[1:] {
		if err := os.RemoveAll(filepath.Join(dir, all[0].name)); err != nil {
			return err
		}
	}
	return nil
}

// finishSetAside completes a move, also one that a crash interrupted.
func finishSetAside(dir string) error {
	moves, err := listAside(dir, true)
	if err != nil || len(moves) == 0 {
		return err
	}
	if err := dirfiles.SyncDir(dir); err != nil { // the mark must be on disk before a file is missing
		return err
	}
	to := filepath.Join(dir, moves[0].name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !belongsToStore(e.Name()) {
			continue
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	if err := errors.Join(dirfiles.SyncDir(to), dirfiles.SyncDir(dir)); err != nil {
		return err
	}
	if err := os.Rename(to, strings.TrimSuffix(to, asideUnfinished)); err != nil {
		return err
	}
	return dirfiles.SyncDir(dir)
}
