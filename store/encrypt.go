package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2"
)

// ErrWrongKey means that the store was made with another key, or without one.
var ErrWrongKey = errors.New("wrong encryption key")

// indexCacheSize limits the memory for indexes of encrypted tables, which Badger keeps
// decrypted.
const indexCacheSize = 32 << 20

// A keyring has the keys that decrypt the tables of a store. The zero value is for a store
// without encryption.
type keyring struct {
	registry *badger.KeyRegistry
	indexes  *ristretto.Cache[uint64, *fb.TableIndex] // Badger requires one
}

// openKeyring checks the key before any file is opened with it. Its error explains the mismatch.
func openKeyring(config Config) (keyring, error) {
	switch len(config.Key) {
	case 0, 16, 24, 32:
	default:
		return keyring{}, fmt.Errorf("store %s: %w: the key has %d bytes; AES requires 16, 24 or 32",
			config.Dir, ErrWrongKey, len(config.Key))
	}
	if _, err := os.Stat(filepath.Join(config.Dir, badger.KeyRegistryFileName)); errors.Is(err, os.ErrNotExist) {
		return keyring{}, nil // a new store
	}
	registry, err := readRegistry(config.Dir, config.Key)
	switch {
	case errors.Is(err, badger.ErrEncryptionKeyMismatch):
		return keyring{}, fmt.Errorf("store %s: %w: %s", config.Dir, ErrWrongKey, keyMismatch(config))
	case err != nil:
		return keyring{}, openError(config.Dir, fmt.Errorf("key registry: %w", err))
	case len(config.Key) == 0:
		return keyring{}, nil
	}
	indexes, err := ristretto.NewCache(&ristretto.Config[uint64, *fb.TableIndex]{
		NumCounters: 1000, MaxCost: 1 << 20, BufferItems: 64})
	return keyring{registry, indexes}, err
}

func readRegistry(dir string, key []byte) (*badger.KeyRegistry, error) {
	return badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
}

// keyMismatch explains why the key is wrong and what to do.
func keyMismatch(config Config) string {
	if len(config.Key) == 0 {
		return "the store is encrypted; set store.encryption_key_file to its key"
	}
	if _, err := readRegistry(config.Dir, nil); err == nil {
		return "the store was made without a key; remove store.encryption_key_file, or " + rebuildAdvice
	}
	return "the store was made with another key; set store.encryption_key_file to that key, or " + rebuildAdvice
}

// close frees the cache.
func (k keyring) close() {
	if k.indexes != nil {
		k.indexes.Close()
	}
}

// encrypts reports whether tables may be encrypted.
func (k keyring) encrypts() bool { return k.registry != nil }

// options returns the options to open one table file.
func (k keyring) options(key uint64) (*table.Options, error) {
	o := &table.Options{BlockSize: 4096, Compression: options.ZSTD}
	if k.registry == nil {
		return o, nil
	}
	var data *pb.DataKey
	data, err := k.registry.DataKey(key)
	if err != nil {
		return nil, fmt.Errorf("key %d: %w", key, err)
	}
	o.DataKey, o.IndexCache = data, k.indexes
	return o, nil
}
