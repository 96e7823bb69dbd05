package daemon

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/store"
)

// How often the store is looked after.
const (
	verifyInterval = time.Hour
	pruneInterval  = time.Hour
)

// maintenance looks after the store: it verifies checksums and drops what is too old.
type maintenance struct {
	store        *store.Store
	retention    atomic.Int64 // of the journal, in nanoseconds
	log          *slog.Logger
	lastVerified atomic.Pointer[time.Time] // when the store was last found good
}

// newMaintenance is for a store that was just opened, which verified it.
func newMaintenance(s *store.Store, c *config.Config, log *slog.Logger) *maintenance {
	u := &maintenance{store: s, log: log}
	u.Set(c)
	u.markVerified()
	return u
}

// Set says for how long to keep what, from the next pruning on. The journal goes together
// with what the removal grace needs.
func (u *maintenance) Set(c *config.Config) {
	u.retention.Store(int64(max(c.Journal.Keep, c.RemovalGrace)))
}

func (u *maintenance) markVerified() {
	now := time.Now()
	u.lastVerified.Store(&now)
}

func (u *maintenance) verified() time.Time { return *u.lastVerified.Load() }

// Run looks after the store until ctx ends. Its troubles are logged: a store that
// fails to verify says so at every look-up, and one that is not pruned only grows.
func (u *maintenance) Run(ctx context.Context) error {
	prune, verify := time.NewTicker(pruneInterval), time.NewTicker(verifyInterval)
	defer prune.Stop()
	defer verify.Stop()
	u.Verify() // opening checked the files, and this counts what is in them as well
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-prune.C:
			u.Prune()
		case <-verify.C:
			u.Verify()
		}
	}
}

// Verify checks the store once.
func (u *maintenance) Verify() error {
	if err := u.store.Verify(); err != nil {
		u.log.Error("store failed its verification", "error", err)
		return err
	}
	u.markVerified()
	u.log.Info("store verified")
	return nil
}

// Prune drops what is older than the journal is kept.
func (u *maintenance) Prune() {
	rows, err := u.store.Prune(time.Now().Add(-time.Duration(u.retention.Load())))
	if err != nil {
		u.log.Error("journal not pruned", "error", err)
	} else if rows > 0 {
		u.log.Info("journal pruned", "rows", rows)
	}
}
