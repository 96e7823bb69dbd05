package mirror

import (
	"context"
	"errors"

	"rcpt-milter/internal/safely"
	"rcpt-milter/store"
)

// reasonRequested is the reason of a full pass that an operator requested.
const reasonRequested = "it was requested"

// Pass runs one pass, over the kept connection or a new one. It uses the same domain
// controller as long as that one answers, and the next candidate otherwise. If a full pass
// is due after an incremental one, it follows. Pass then returns the result of the last
// good pass.
func (m *Mirror) Pass(ctx context.Context, full bool) PassResult {
	m.State() // detects a clock that was set back, also if no recipient is unknown
	m.saveDoubt()
	if err := m.checkGate(); err != nil {
		m.recordNotRun(err)
		return PassResult{Info: store.PassInfo{Started: m.config.Now()}, Err: err}
	}
	why := ""
	if full {
		why = reasonRequested
	}
	m.fullDue = ""
	result := m.recoverPass(func() PassResult { return m.passWithFailover(ctx, why) })
	if ctx.Err() != nil { // a stop is no failure
		return result
	}
	m.recordResult(result)
	switch {
	case result.Err != nil:
		return result
	case m.fullDue == "":
		m.recordFullDone()
		return result
	}
	return m.runDueFull(ctx, result)
}

// recordNotRun records why no pass can run. This does not count as a failed pass.
func (m *Mirror) recordNotRun(err error) {
	m.updateStatus(func(s *Status) {
		if s.LastError == nil {
			s.LastError, s.FailingSince = err, m.config.Now()
		}
	})
}

// recoverPass turns a panic of a pass into a failed pass.
func (m *Mirror) recoverPass(pass func() PassResult) (result PassResult) {
	started := m.config.Now()
	err := safely.Do(m.config.Log, "pass", func() error {
		result = pass()
		return nil
	})
	if err != nil {
		m.hangUp()
		return PassResult{Info: store.PassInfo{Started: started}, Err: err}
	}
	return result
}

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
		case kept: // the connection may only have been too old
			m.config.Log.Info("connection to the domain controller lost, trying again", "error", result.Err)
			continue
		}
		tried[m.current().Name] = true
		if err := m.discover(ctx); err != nil || !m.controllers.next(tried) {
			return result
		}
		m.config.Log.Warn("domain controller does not serve, trying the next one",
			"error", result.Err, "next", m.current().Name)
	}
}

// isLocalError reports whether another connection would not help against an error.
func isLocalError(err error) bool {
	var s storeError
	return errors.As(err, &s) || errors.Is(err, errEmpty) ||
		errors.Is(err, errContainerMoved) || errors.Is(err, errBaseMissing)
}

// attempt runs one pass at the current domain controller. The pass is full if there is a
// reason for it. An error of the directory closes the connection.
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
	return PassResult{Info: r.info, Err: err}
}
