package daemon

import (
	"context"
	"fmt"

	"rcpt-milter/config"
	"rcpt-milter/store"
)

// storeConfig says where the store is, and with which key it is read.
func storeConfig(c *config.Config) (store.Config, error) {
	key, err := c.Store.Key()
	if err != nil {
		return store.Config{}, fmt.Errorf("store.encryption_key_file: %w", err)
	}
	return store.Config{Dir: c.Store.Dir, MinFree: c.Store.MinFree, Key: key}, nil
}

// openStored opens the store of a daemon that does not run; it has to exist.
func openStored(ctx context.Context, c *config.Config) (*store.Store, error) {
	at, err := storeConfig(c)
	if err != nil {
		return nil, err
	}
	at.MustExist = true
	return store.Open(ctx, at)
}
