package mirror

import (
	"context"
	"errors"

	"rcpt-milter/store"
)

// passWithFailover tries the candidates, each once, until a pass succeeds.
func (m *Mirror) passWithFailover(ctx context.Context, full string) PassResult {
	m.seekCatalog(ctx)
	if m.source == nil {
		started := m.config.Now()
		if err := m.discover(ctx); err != nil {
			return PassResult{Info: store.PassInfo{Started: started}, Err: err}
		}
		m.selectController()
	}
	for tried := map[string]bool{}; ; {
		kept := m.source != nil
		result := m.attempt(ctx, full)
		switch {
		case ctx.Err() != nil, result.Err == nil, isLocalError(result.Err), needsNewSecret(result.Err):
			return result
		case kept: // the connection may just have been too old
			m.config.Log.Info("connection to the domain controller lost, trying again", "error", result.Err)
			continue
		}
		tried[m.current().Name] = true
		if err := m.discover(ctx); err != nil || !m.controllers.next(tried) {
			return result
		}
		m.config.Log.Warn("domain controller failed, trying the next one",
			"error", result.Err, "next", m.current().Name)
	}
}

// isLocalError reports whether another connection would not help against an error.
func isLocalError(err error) bool {
	var s storeError
	return errors.As(err, &s) || errors.Is(err, errEmpty) ||
		errors.Is(err, errContainerMoved) || errors.Is(err, errBaseMissing)
}

// attempt runs one pass at the current domain controller. The pass is full if there is a reason for it. An
// error of the directory closes the connection.
func (m *Mirror) attempt(ctx context.Context, full string) PassResult {
	r := passRun{m: m, started: m.config.Now()}
	defer m.updateStatus(func(s *Status) { s.Running = nil })
	var err error
	if r.root, err = m.connect(ctx); err == nil {
		err = r.run(ctx, full)
	}
	r.logMoreUnread()
	if err != nil && !isLocalError(err) {
		m.hangUp()
	}
	if err != nil {
		r.info.Started, r.info.Kind, r.info.Controller = r.started, r.kind, r.root.DNSHostName
	}
	result := PassResult{Info: r.info, Err: err}
	m.noteChangesHidden(result)
	return result
}
