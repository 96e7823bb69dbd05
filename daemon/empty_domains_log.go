package daemon

import (
	"log/slog"
	"slices"
	"sync"

	"rcpt-milter/control"
)

// emptyLog logs once that an enforced domain has no address, and once that it has one again.
type emptyLog struct {
	empty func() []string // returns the empty domains of this moment
	log   *slog.Logger

	mu     sync.Mutex
	before []string
}

// Check logs what has changed since the last check. It runs after each pass.
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
