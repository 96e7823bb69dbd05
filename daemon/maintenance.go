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
	verifyEvery = time.Hour
	pruneEvery  = time.Hour
)

// upkeep looks after the store: it verifies checksums and drops what is too old.
type upkeep struct {
	store *store.Store
	keep  atomic.Int64 // of the journal, in nanoseconds
	log   *slog.Logger
	last  atomic.Pointer[time.Time] // when the store was last found good
}

// newUpkeep is for a store that was just opened, which verified it.
func newUpkeep(s *store.Store, c *config.Config, log *slog.Logger) *upkeep {
	u := &upkeep{store: s, log: log}
	u.Set(c)
	u.mark()
	return u
}

// Set says for how long to keep what, from the next pruning on. The journal goes together
// with what the removal grace needs.
func (u *upkeep) Set(c *config.Config) { u.keep.Store(int64(max(c.Journal.Keep, c.RemovalGrace))) }

func (u *upkeep) mark() {
	now := time.Now()
	u.last.Store(&now)
}

func (u *upkeep) verified() time.Time { return *u.last.Load() }

// Run looks after the store until ctx ends. Its troubles are logged: a store that
// fails to verify says so at every look-up, and one that is not pruned only grows.
func (u *upkeep) Run(ctx context.Context) error {
	prune, verify := time.NewTicker(pruneEvery), time.NewTicker(verifyEvery)
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
func (u *upkeep) Verify() error {
	if err := u.store.Verify(); err != nil {
		u.log.Error("store failed its verification", "error", err)
		return err
	}
	u.mark()
	u.log.Info("store verified")
	return nil
}

// Prune drops what is older than the journal is kept.
func (u *upkeep) Prune() {
	rows, err := u.store.Prune(time.Now().Add(-time.Duration(u.keep.Load())))
	if err != nil {
		u.log.Error("journal not pruned", "error", err)
	} else if rows > 0 {
		u.log.Info("journal pruned", "rows", rows)
	}
}
