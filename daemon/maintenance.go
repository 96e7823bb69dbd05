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

// maintenance verifies the store and prunes the journal.
type maintenance struct {
	store        *store.Store
	retention    atomic.Int64 // retention of the journal, in nanoseconds
	log          *slog.Logger
	lastVerified atomic.Pointer[time.Time] // time of the last successful verification
}

// newMaintenance requires a store that was just opened, which has verified it.
func newMaintenance(s *store.Store, c *config.Config, log *slog.Logger) *maintenance {
	u := &maintenance{store: s, log: log}
	u.Set(c)
	u.markVerified()
	return u
}

// Set sets the retention of the journal, effective at the next pruning.
func (m *maintenance) Set(c *config.Config) { m.retention.Store(int64(journalRetention(c))) }

// journalRetention returns how long the journal is kept. The removal grace needs it, and after a restart so do the
// removal guards, which count the removals within their windows.
func journalRetention(c *config.Config) time.Duration {
	keep := max(c.Journal.Keep, c.RemovalGrace)
	for _, d := range c.Directories {
		if d.RemovalGuard.Max > 0 {
			keep = max(keep, d.RemovalGuard.Window)
		}
	}
	return keep
}

func (m *maintenance) markVerified() {
	now := time.Now()
	m.lastVerified.Store(&now)
}

func (m *maintenance) verified() time.Time { return *m.lastVerified.Load() }

// Run maintains the store until ctx ends. It only logs errors: a store that fails verification returns an error
// from each lookup, and a store that is not pruned just grows.
func (m *maintenance) Run(ctx context.Context) error {
	prune, verify := time.NewTicker(pruneInterval), time.NewTicker(verifyInterval)
	defer prune.Stop()
	defer verify.Stop()
	m.Verify() // opening has verified the files; this also counts their contents
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-prune.C:
			m.Prune()
		case <-verify.C:
			m.Verify()
		}
	}
}

// Verify verifies the store once.
func (m *maintenance) Verify() error {
	if err := m.store.Verify(); err != nil {
		m.log.Error("store failed its verification", "error", err)
		return err
	}
	m.markVerified()
	m.log.Info("store verified")
	return nil
}

// Prune removes rows older than the retention.
func (m *maintenance) Prune() {
	rows, err := m.store.Prune(time.Now().Add(-time.Duration(m.retention.Load())))
	if err != nil {
		m.log.Error("journal not pruned", "error", err)
	} else if rows > 0 {
		m.log.Info("journal pruned", "rows", rows)
	}
}
