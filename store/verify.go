package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// Verify checks the store on disk, as of one commit even during writes: every table file against
// its checksums, and the totals against a recount. After a failure, nothing is written any more,
// and a lookup still answers what it finds; a lookup that finds nothing returns an error. That
// lasts until the process ends, unless only the recount failed and a later verification
// succeeds. Verify reads the whole store; call it rarely.
func (s *Store) Verify() error {
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.done()
	if err := s.verifyTables(); err != nil {
		return err
	}
	if err := s.verifyLogs(); err != nil {
		return err
	}
	if err := v.recount(); errors.Is(err, ErrDamaged) {
		return s.markDoubtful(err)
	} else if err != nil {
		return err
	}
	s.clearDoubt()
	return nil
}

// verifyTables checks the manifest and the files of the present tables. The manifest has the
// encryption key of each table. A table that is not in it was removed by a compaction meanwhile.
func (s *Store) verifyTables() error { return s.verifyListed(s.db.Tables()) }

func (s *Store) verifyListed(tables []badger.TableInfo) error {
	keys, err := openKeyring(s.config)
	if err != nil {
		return err
	}
	defer keys.close()
	named, err := s.readManifest()
	if err != nil {
		return s.markDamaged(err)
	}
	for _, info := range tables {
		entry, there := named[info.ID]
		if !there && keys.encrypts() {
			continue
		}
		err := verifyTable(table.NewFilename(info.ID, s.config.Dir), keys, entry.KeyID, s.config.sums)
		if err != nil && s.hasTable(info.ID) {
			return s.fileError(err)
		}
	}
	s.config.sums.keep(s.config.Dir, tables)
	return nil
}

// hasTable reports whether a table is in use. Badger takes a table out of use before it
// truncates and removes its file.
func (s *Store) hasTable(id uint64) bool {
	return slices.ContainsFunc(s.db.Tables(), func(info badger.TableInfo) bool { return info.ID == id })
}

// readManifest reads the manifest of the running store. It tries again if Badger was writing to
// it.
func (s *Store) readManifest() (named map[uint64]badger.TableManifest, err error) {
	for range 5 {
		if named, err = manifestTables(s.config); err == nil {
			return named, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

// damagedFile marks an error whose cause is the content of a file, or the disk. A file that
// cannot be opened is not such an error.
type damagedFile struct{ error }

func (e damagedFile) Unwrap() error { return e.error }

// fileError returns the error for a file that failed its verification, and records damage.
func (s *Store) fileError(err error) error {
	if errors.As(err, new(damagedFile)) || errors.Is(err, syscall.EIO) {
		return s.markDamaged(err)
	}
	return fmt.Errorf("store %s: cannot verify: %w", s.config.Dir, err)
}

// markDamaged records that a file is damaged, and returns the error for it. A file does not
// heal, and the output of compacting it looks sound. Only reopening the store, which verifies
// all of it, ends that state.
func (s *Store) markDamaged(err error) error {
	s.damaged.Store(true)
	s.doubted.Store(false)
	return s.damageError(err)
}

// markDoubtful records that a count differs from the totals. That is damage, unless all files
// are sound and a later count agrees: then a single read was wrong.
func (s *Store) markDoubtful(err error) error {
	if s.damaged.CompareAndSwap(false, true) {
		s.doubted.Store(true)
	}
	return s.damageError(err)
}

// clearDoubt ends that state after a verification succeeded.
func (s *Store) clearDoubt() {
	if s.doubted.CompareAndSwap(true, false) {
		s.damaged.Store(false)
	}
}

func (s *Store) damageError(err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return damageError(s.config.Dir, err)
}

func damageError(dir string, err error) error {
	// Badger's messages have several lines.
	text := strings.Join(strings.Fields(err.Error()), " ")
	return fmt.Errorf("store %s: %w: %s; %s", dir, ErrDamaged, text, rebuildAdvice)
}

// verifyFiles checks the table files before Badger opens them. Badger's own check at opening
// ends the process if a damaged block cannot be decompressed, and it may skip a file that it
// cannot check. Files that are not in the manifest are not part of the store: a process that was
// killed had begun to write them, and Badger removes them.
func verifyFiles(config Config) error {
	keys, err := openKeyring(config)
	if err != nil {
		return err
	}
	defer keys.close()
	tables, err := manifestTables(config)
	if err != nil {
		return openError(config.Dir, err)
	}
	for id, entry := range tables {
		if err := verifyTable(table.NewFilename(id, config.Dir), keys, entry.KeyID, config.sums); err != nil {
			return openError(config.Dir, err)
		}
	}
	return nil
}

// manifestTables returns the tables in the manifest; none for a new store.
func manifestTables(config Config) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(config.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	manifest, _, err := badger.ReplayManifestFile(f, 0, badgerOptions(config))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return manifest.Tables, nil
}

// tableSums has the checksums of whole table files from their first verification. Table files
// never change. The checksums inside a file do not cover all of it.
type tableSums struct {
	sync.Mutex
	by map[string]uint32
}

// matches reports whether a file still has its first checksum. It records an unknown one.
func (t *tableSums) matches(file string, data []byte) bool {
	sum := crc32.Checksum(data, castagnoli)
	t.Lock()
	defer t.Unlock()
	before, ok := t.by[file]
	if !ok {
		t.by[file] = sum
	}
	return !ok || before == sum
}

// keep deletes the checksums of all other tables. Badger uses no number twice while it runs.
func (t *tableSums) keep(dir string, tables []badger.TableInfo) {
	t.Lock()
	defer t.Unlock()
	kept := make(map[string]uint32, len(tables))
	for _, info := range tables {
		file := table.NewFilename(info.ID, dir)
		if sum, ok := t.by[file]; ok {
			kept[file] = sum
		}
	}
	t.by = kept
}

// verifyTable checks a copy of one file in memory, because mapped pages of a truncated file
// would end the process. A file that is gone was removed by a compaction.
func verifyTable(file string, keys keyring, key uint64, sums *tableSums) (err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { // a damaged file makes Badger's parser index out of range
		if p := recover(); p != nil {
			err = damagedFile{fmt.Errorf("table %s: %v", filepath.Base(file), p)}
		}
	}()
	id, _ := table.ParseFileID(file)
	o, err := keys.options(key)
	if err != nil {
		return damagedFile{fmt.Errorf("table %s: %w", filepath.Base(file), err)}
	}
	t, err := table.OpenInMemoryTable(data, id, o)
	if err == nil {
		err = t.VerifyChecksum()
	}
	if err != nil {
		return damagedFile{fmt.Errorf("table %s: %w", filepath.Base(file), err)}
	}
	if !sums.matches(file, data) {
		return damagedFile{fmt.Errorf("table %s: the file has changed", filepath.Base(file))}
	}
	return nil
}

// Recount counts the addresses and objects as of the newest commit and compares the result with
// the totals of that commit. It returns an error that describes the difference.
func (s *Store) Recount() error {
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.done()
	return v.recount()
}

func (r reader) recount() error {
	counted, err := r.count()
	if err != nil {
		return err
	}
	kept, err := r.totals()
	if err != nil {
		return err
	}
	if r.s.older { // its counts were made at opening
		kept = *r.s.totals.Load()
	}
	if differs := counted.differsFrom(&kept); differs != "" {
		return damageError(r.s.config.Dir, errors.New(differs))
	}
	return nil
}

// count computes the totals from the records of addresses and objects.
func (r reader) count() (totals, error) {
	var count totalsDelta
	err := r.scan([]byte(prefixAddress), false, func(kv pair) error {
		record, err := decodeAddress(kv.value)
		if err != nil {
			return r.s.markDamaged(r.s.unreadable(string(kv.key), err))
		}
		count.address(string(kv.key[len(prefixAddress):]), &addressRecord{}, &record)
		return nil
	})
	if err != nil {
		return totals{}, err
	}
	err = r.scan([]byte(prefixObject), false, func(kv pair) error {
		record, err := decodeObject(kv.value)
		if err != nil {
			return r.s.markDamaged(r.s.unreadable(fmt.Sprintf("%x", kv.key), err))
		}
		count.object(dirOf(kv.key), &objectRecord{}, &record)
		return nil
	})
	return new(totals).after(&count), err
}
