package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// Verify checks what is on disk: every table file against its checksums, and the
// totals against a recount. After a failure a look-up that finds nothing is an error,
// since a damaged block reads as "not found"; what is found is still answered. Nothing
// is written any more. It reads the whole store; call it seldom.
func (s *Store) Verify() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.verifyTables(); err != nil {
		return s.damage(err)
	}
	if err := s.recountQuietly(); err != nil {
		return s.damage(err)
	}
	return nil
}

// verifyTables checks the files of the tables that there are now. Which key each has, if
// any, the manifest tells; a table that it does not name was compacted away since.
func (s *Store) verifyTables() error {
	tables := s.db.Tables()
	keys, err := openKeyring(s.config)
	if err != nil {
		return err
	}
	defer keys.close()
	var named map[uint64]badger.TableManifest
	if keys.encrypts() {
		if named, err = manifestTables(s.config); err != nil {
			return err
		}
	}
	for _, info := range tables {
		entry, there := named[info.ID]
		if !there && keys.encrypts() {
			continue
		}
		if err := verifyTable(table.NewFilename(info.ID, s.config.Dir), keys, entry.KeyID); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) damage(err error) error {
	s.damaged.Store(true)
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
		if err := verifyTable(table.NewFilename(id, config.Dir), keys, entry.KeyID); err != nil {
			return damageError(config.Dir, err)
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

// verifyTable checks one file, on a copy in memory: mapped pages of a file that was cut
// short would end the process. A file that is gone was compacted away.
func verifyTable(file string, keys keyring, key uint64) (err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { // garbage sends Badger's parser out of bounds
		if p := recover(); p != nil {
			err = fmt.Errorf("table %s: %v", filepath.Base(file), p)
		}
	}()
	id, _ := table.ParseFileID(file)
	o, err := keys.options(key)
	if err != nil {
		return fmt.Errorf("table %s: %w", filepath.Base(file), err)
	}
	t, err := table.OpenInMemoryTable(data, id, o)
	if err == nil {
		err = t.VerifyChecksum()
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", filepath.Base(file), err)
	}
	return nil
}

// recountQuietly recounts unless writers keep changing what is counted; the next
// verification will do.
func (s *Store) recountQuietly() error {
	for range 3 {
		before := s.totals.Load()
		err := s.Recount()
		if s.totals.Load() == before {
			return err
		}
	}
	return nil
}

// Recount goes through the addresses and objects and compares what it counts with the
// totals. Nothing may be writing. An error says what differs.
func (s *Store) Recount() error {
	counted, err := s.count()
	if err != nil {
		return err
	}
	if differs := counted.differsFrom(s.totals.Load()); differs != "" {
		return damageError(s.config.Dir, errors.New(differs))
	}
	return nil
}

// count works the totals out from the records of addresses and objects.
func (s *Store) count() (totals, error) {
	var count totalsDelta
	err := s.scan([]byte(prefixAddress), false, func(kv pair) error {
		r, err := decodeAddress(kv.value)
		if err != nil {
			return s.unreadable(string(kv.key), err)
		}
		count.address(string(kv.key[len(prefixAddress):]), &addressRecord{}, &r)
		return nil
	})
	if err != nil {
		return totals{}, err
	}
	err = s.scan([]byte(prefixObject), false, func(kv pair) error {
		r, err := decodeObject(kv.value)
		if err != nil {
			return s.unreadable(fmt.Sprintf("%x", kv.key), err)
		}
		count.object(dirOf(kv.key), &objectRecord{}, &r)
		return nil
	})
	return new(totals).after(&count), err
}
