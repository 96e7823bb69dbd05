package daemon

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/store"
)

// Intervals of maintenance.
const (
	verifyInterval = time.Hour
	pruneInterval  = time.Hour
)

// maintenance verifies the store and prunes its journal.
type maintenance struct {
	store        *store.Store
	retention    atomic.Int64 // of the journal, in nanoseconds
	log          *slog.Logger
	lastVerified atomic.Pointer[time.Time] // time of the last successful verification
}

// newMaintenance is for a store that was just opened, and so verified.
func newMaintenance(s *store.Store, c *config.Config, log *slog.Logger) *maintenance {
	u := &maintenance{store: s, log: log}
	u.Set(c)
	u.markVerified()
	return u
}

// Set sets the retention of the journal for the next pruning. The removal grace needs the
// journal too.
func (u *maintenance) Set(c *config.Config) {
	u.retention.Store(int64(max(c.Journal.Keep, c.RemovalGrace)))
}

func (u *maintenance) markVerified() {
	now := time.Now()
	u.lastVerified.Store(&now)
}

func (u *maintenance) verified() time.Time { return *u.lastVerified.Load() }

// Run maintains the store until ctx ends. It only logs errors: a store that fails to verify
// reports an error at each lookup, and a store that is not pruned only grows.
func (u *maintenance) Run(ctx context.Context) error {
	prune, verify := time.NewTicker(pruneInterval), time.NewTicker(verifyInterval)
	defer prune.Stop()
	defer verify.Stop()
	u.Verify() // opening verified the files; this also counts what they contain
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

// Verify verifies the store once.
func (u *maintenance) Verify() error {
	if err := u.store.Verify(); err != nil {
		u.log.Error("store failed its verification", "error", err)
		return err
	}
	u.markVerified()
	u.log.Info("store verified")
	return nil
}

// Prune removes rows that are older than the retention.
func (u *maintenance) Prune() {
	rows, err := u.store.Prune(time.Now().Add(-time.Duration(u.retention.Load())))
	if err != nil {
		u.log.Error("journal not pruned", "error", err)
	} else if rows > 0 {
		u.log.Info("journal pruned", "rows", rows)
	}
}
