package daemon

import (
	"context"
	"fmt"

	"rcpt-milter/config"
	"rcpt-milter/store"
)

// storeConfig returns the configuration of the store, including its key.
func storeConfig(c *config.Config) (store.Config, error) {
	key, err := c.Store.Key()
	if err != nil {
		return store.Config{}, fmt.Errorf("store.encryption_key_file: %w", err)
	}
	return store.Config{Dir: c.Store.Dir, MinFree: c.Store.MinFree, Key: key}, nil
}

// daemonStoreConfig is storeConfig for the daemon, which keeps answering as long as possible.
func daemonStoreConfig(c *config.Config) (store.Config, error) {
	at, err := storeConfig(c)
	at.KeepAnswering, at.Rebuild = true, c.Store.Rebuild == config.RebuildAuto
	return at, err
}

// openStored opens the existing store of a stopped daemon.
func openStored(ctx context.Context, c *config.Config) (*store.Store, error) {
	at, err := storeConfig(c)
	if err != nil {
		return nil, err
	}
	at.MustExist = true
	return store.Open(ctx, at)
}
