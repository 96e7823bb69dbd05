package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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
// lasts until the store is rebuilt or the process ends, unless only the recount failed and a
// later verification succeeds. Verify reads the whole store; call it rarely.
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
		return s.markSuspected(err)
	} else if err != nil {
		return err
	}
	s.clearSuspicion()
	return nil
}

// verifyTables checks the manifest and the files of the present tables. The manifest has the
// encryption key of each table. A table that is not in it was removed by a compaction meanwhile.
func (s *Store) verifyTables() error {
	if err := s.beginRead(); err != nil {
		return err
	}
	defer s.endRead()
	tables, err := s.tables()
	if err != nil {
		return err
	}
	return s.verifyListed(tables)
}

// tables lists the tables in use. Badger reads their indexes for that.
func (s *Store) tables() (all []badger.TableInfo, err error) {
	defer s.catchFaults(&err)()
	return s.db.Tables(), nil
}

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
		if err != nil && s.hasTable(info.ID) { // otherwise a compaction has removed it
			return s.fileError(err)
		}
	}
	s.config.sums.keep(s.config.Dir, tables)
	return nil
}

// hasTable reports whether a table is in use. Badger takes a table out of use before it
// truncates and removes its file.
func (s *Store) hasTable(id uint64) bool {
	tables, err := s.tables()
	return err != nil || slices.ContainsFunc(tables, func(info badger.TableInfo) bool { return info.ID == id })
}

// readManifest reads the manifest of the running store. It tries again if Badger was writing to
// it.
func (s *Store) readManifest() (named map[uint64]badger.TableManifest, err error) {
	for range 5 {
		if named, err = manifestTables(s.config); err == nil && named != nil {
			return named, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil {
		err = damagedFile{errors.New("manifest: the file is missing")}
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
	s.judging.Lock()
	s.damaged.Store(true)
	s.suspected.Store(false)
	s.judging.Unlock()
	err = s.damageError(err)
	s.noteDamage(err)
	return err
}

// markSuspected records that a count differs from the totals. That is damage, unless all files
// are sound and a later count agrees: then a single read was wrong.
func (s *Store) markSuspected(err error) error {
	err = s.damageError(err)
	s.judging.Lock()
	first := s.damaged.CompareAndSwap(false, true)
	if first {
		s.suspected.Store(true)
	}
	s.judging.Unlock()
	if first {
		s.noteDamage(err)
	}
	return err
}

// clearSuspicion ends that state after a verification succeeded.
func (s *Store) clearSuspicion() {
	s.judging.Lock()
	defer s.judging.Unlock()
	if s.suspected.CompareAndSwap(true, false) {
		s.damage.Store(nil)
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
	return fmt.Errorf("store %s: %w: %s; %s", dir, ErrDamaged, text, damageAdvice)
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
	tables, torn, err := replayManifest(config)
	if err == nil && torn {
		err = checkTorn(config.Dir)
	}
	if err == nil {
		err = checkReadable(config.Dir, tables == nil)
	}
	if err != nil {
		return openError(config.Dir, err)
	}
	for id, entry := range tables {
		if err := verifyTable(table.NewFilename(id, config.Dir), keys, entry.KeyID, config.sums); err != nil {
			return openError(config.Dir, err)
		}
		config.Progress()
	}
	return nil
}

// checkReadable reads the files that Badger maps into memory before it can report an error. A
// store without a manifest must be new: Badger would take its files for leftovers, remove the
// tables and replay the logs.
func checkReadable(dir string, isNew bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !belongsToStore(e.Name()) {
			continue
		}
		ext := filepath.Ext(e.Name())
		if isNew && ext != "" {
			return fmt.Errorf("manifest: the file is missing, and there is %s", e.Name())
		}
		if ext == ".sst" || e.Name() == commitFileName {
			continue
		}
		if err := readThrough(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func readThrough(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// manifestTables returns the tables in the manifest; nil for a new store.
func manifestTables(config Config) (map[uint64]badger.TableManifest, error) {
	tables, _, err := replayManifest(config)
	return tables, err
}

// replayManifest also reports whether the manifest ends in the middle of an entry.
func replayManifest(config Config) (tables map[uint64]badger.TableManifest, torn bool, err error) {
	f, err := os.Open(filepath.Join(config.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	manifest, end, err := badger.ReplayManifestFile(f, 0, badgerOptions(config))
	if err != nil {
		return nil, false, fmt.Errorf("manifest: %w", err)
	}
	info, err := f.Stat()
	return manifest.Tables, err == nil && end < info.Size(), err
}

// checkTorn returns an error if a manifest may not end in the middle of an entry. Only a process
// that is killed leaves such an entry, and then the log of a memory table. Badger cuts off the
// rest, and removes the tables that the rest named.
func checkTorn(dir string) error {
	if err := checkCleanShutdown(dir); errors.Is(err, ErrUnclean) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.New("manifest: its end is missing")
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
// would end the process.
func verifyTable(file string, keys keyring, key uint64, sums *tableSums) (err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return damagedFile{fmt.Errorf("table %s: the file is missing", filepath.Base(file))}
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
		r.s.checkSeen(kv.key, &record, r.at)
		count.address(string(kv.key[len(prefixAddress):]), &addressRecord{}, &record)
		return nil
	})
	if err != nil {
		return totals{}, err
	}
	err = r.records([]byte(prefixObject), func(dir dirID, guid GUID, record objectRecord) error {
		count.object(dir, guid, &objectRecord{}, &record)
		return nil
	})
	if errors.Is(err, ErrDamaged) {
		err = r.s.markDamaged(err)
	}
	if err == nil {
		err = r.countOutbox(&count)
	}
	return new(totals).after(&count), err
}
