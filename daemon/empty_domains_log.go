package daemon

import (
	"log/slog"
	"slices"
	"sync"
)

// emptyLog logs when an enforced domain has no address, and when it has one again.
type emptyLog struct {
	empty   func() []string            // returns the empty domains of this moment
	explain func(domain string) string // what is wrong with one of them
	log     *slog.Logger

	mu     sync.Mutex
	before []string
}

// Check logs changes since the last check. It runs after each pass.
func (e *emptyLog) Check() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.empty()
	for _, domain := range now {
		if !slices.Contains(e.before, domain) {
			e.log.Error("enforced domain has no known address", "domain", domain, "error", e.explain(domain))
		}
	}
	for _, domain := range e.before {
		if !slices.Contains(now, domain) {
			e.log.Info("enforced domain is no longer without addresses", "domain", domain)
		}
	}
	e.before = now
}
