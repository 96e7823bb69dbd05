package daemon

import (
	"log/slog"
	"slices"
	"sync"

	"rcpt-milter/control"
)

// emptyLog logs each enforced domain once when it turns out to have no address, and when
// it has one.
type emptyLog struct {
	empty func() []string // of this moment
	log   *slog.Logger

	mu     sync.Mutex
	before []string
}

// Check logs what changed since the last call. It is called after every pass.
func (e *emptyLog) Check() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.empty()
	for _, domain := range now {
		if !slices.Contains(e.before, domain) {
			e.log.Error("enforced domain has no known address", "domain", domain, "error", control.EmptyDomainText(domain))
		}
	}
	for _, domain := range e.before {
		if !slices.Contains(now, domain) {
			e.log.Info("enforced domain is no longer without addresses", "domain", domain)
		}
	}
	e.before = now
}
