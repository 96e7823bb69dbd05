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

// Verify checks what is on disk: every table file against its checksums, and the totals
// against a recount, both as of one commit, whatever is written meanwhile. After a failure
// a look-up that finds nothing is an error, what is found is still answered, and nothing
// is written any more. That ends with the process, unless only the recount had failed and
// a later verification finds all of it right. It reads the whole store; call it seldom.
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

// verifyTables checks the manifest, and the files of the tables that there are now. Which
// key each has, if any, the manifest tells; a table that it does not name was compacted
// away since.
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

// hasTable reports whether a table is in use. Badger takes one out of use before it cuts
// its file short and removes it.
func (s *Store) hasTable(id uint64) bool {
	return slices.ContainsFunc(s.db.Tables(), func(info badger.TableInfo) bool { return info.ID == id })
}

// readManifest reads the manifest of the running store, again if Badger was writing to it.
func (s *Store) readManifest() (named map[uint64]badger.TableManifest, err error) {
	for range 5 {
		if named, err = manifestTables(s.config); err == nil {
			return named, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

// damagedFile marks an error that the content of a file is the cause of, or the disk. That
// a file cannot be opened is none.
type damagedFile struct{ error }

func (e damagedFile) Unwrap() error { return e.error }

// fileError returns what a verification found of a file, and notes damage.
func (s *Store) fileError(err error) error {
	if errors.As(err, new(damagedFile)) || errors.Is(err, syscall.EIO) {
		return s.markDamaged(err)
	}
	return fmt.Errorf("store %s: cannot verify: %w", s.config.Dir, err)
}

// damage notes that a file is damaged, and words it. A file does not heal, and what
// compaction makes of it looks sound: only opening the store again, which verifies all of
// it, ends that.
func (s *Store) markDamaged(err error) error {
	s.damaged.Store(true)
	s.doubted.Store(false)
	return s.damageError(err)
}

// doubt notes that what was counted differs from the totals. It is damage, unless all
// files are sound and a later count agrees: then one read went wrong.
func (s *Store) markDoubtful(err error) error {
	if s.damaged.CompareAndSwap(false, true) {
		s.doubted.Store(true)
	}
	return s.damageError(err)
}

// believe ends a doubt after everything was found right.
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
	// Badger speaks in several lines.
	text := strings.Join(strings.Fields(err.Error()), " ")
	return fmt.Errorf("store %s: %w: %s; %s", dir, ErrDamaged, text, rebuildAdvice)
}

// verifyFiles checks the table files before Badger opens them. Badger's own check at
// opening ends the process when a damaged block cannot even be decompressed, and a
// file it cannot check by other means it may leave out. Files that the manifest does
// not name are none of the store: a process that was killed had begun to write them,
// and Badger removes them.
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

// manifestTables are the tables that the manifest names; none in a new store.
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

// tableSums are the checksums of whole table files, which never change, as they were when
// they were first verified. Those in a file do not cover the whole of it.
type tableSums struct {
	sync.Mutex
	by map[string]uint32
}

// same reports whether a file has the checksum that it had before, if there was one.
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

// keep forgets all other tables. Badger gives no number twice while it runs.
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

// verifyTable checks one file, on a copy in memory: mapped pages of a file that was cut
// short would end the process. A file that is gone was compacted away.
func verifyTable(file string, keys keyring, key uint64, sums *tableSums) (err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { // garbage sends Badger's parser out of bounds
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
		return damagedFile{fmt.Errorf("table %s: it has changed", filepath.Base(file))}
	}
	return nil
}

// Recount goes through the addresses and objects as of the newest commit, and compares
// what it counts with the totals of that commit. An error says what differs.
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
	if r.s.older { // its counts were worked out at opening
		kept = *r.s.totals.Load()
	}
	if differs := counted.differsFrom(&kept); differs != "" {
		return damageError(r.s.config.Dir, errors.New(differs))
	}
	return nil
}

// count works the totals out from the records of addresses and objects.
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
