package mirror

import (
	"context"
	"errors"

	"rcpt-milter/store"
)

// askedFor is the reason for a full pass that an operator wants.
const askedFor = "it was asked for"

// Pass runs one pass over a connection that is kept, or a new one: to the same domain
// controller as long as it answers, else to the next candidate. An incremental pass after
// which a full one is due is followed by that; it gives the result of the last one that is
// good.
func (m *Mirror) Pass(ctx context.Context, full bool) PassResult {
	m.State() // notices a clock that was set back, even if no recipient is asked about
	if err := m.refusedStill(); err != nil {
		m.notRun(err)
		return PassResult{Info: store.PassInfo{Started: m.config.Now()}, Err: err}
	}
	why := ""
	if full {
		why = askedFor
	}
	m.due = ""
	result := m.protect(func() PassResult { return m.anywhere(ctx, why) })
	if ctx.Err() != nil { // to be stopped is no failure
		return result
	}
	m.finished(result)
	switch {
	case result.Err != nil:
		return result
	case m.due == "":
		m.fullDone()
		return result
	}
	return m.periodic(ctx, result)
}

// notRun notes why no pass can be run. That is no failed pass, and counts as none.
func (m *Mirror) notRun(err error) {
	m.update(func(s *Status) {
		if s.LastError == nil {
			s.LastError, s.FailingSince = err, m.config.Now()
		}
	})
}

// protect makes a failed pass of one that panics.
func (m *Mirror) protect(pass func() PassResult) (result PassResult) {
	started := m.config.Now()
	err := Safely(m.config.Log, "pass", func() error {
		result = pass()
		return nil
	})
	if err != nil {
		m.hangUp()
		return PassResult{Info: store.PassInfo{Started: started}, Err: err}
	}
	return result
}

// anywhere tries one candidate after the other, each once, until one serves.
func (m *Mirror) anywhere(ctx context.Context, full string) PassResult {
	m.seekCatalog(ctx)
	if m.source == nil {
		started := m.config.Now()
		if err := m.locate(ctx); err != nil {
			return PassResult{Info: store.PassInfo{Started: started}, Err: err}
		}
		m.pin()
	}
	for tried := map[string]bool{}; ; {
		kept := m.source != nil
		result := m.attempt(ctx, full)
		switch {
		case ctx.Err() != nil, result.Err == nil, ownError(result.Err), awaitsSecret(result.Err):
			return result
		case kept: // it may only have been too old a connection
			m.config.Log.Info("connection to the domain controller lost, trying again", "error", result.Err)
			continue
		}
		tried[m.current().Name] = true
		if err := m.locate(ctx); err != nil || !m.roster.next(tried) {
			return result
		}
		m.config.Log.Warn("domain controller does not serve, trying the next one",
			"error", result.Err, "next", m.current().Name)
	}
}

// ownError reports whether the connection is not to blame for an error.
func ownError(err error) bool {
	var s storeError
	return errors.As(err, &s) || errors.Is(err, errEmpty) || errors.Is(err, errMoved) || errors.Is(err, errNoBase)
}

// attempt runs one pass with one domain controller, a full one for a reason that may be
// empty. After an error of the directory the connection is gone.
func (m *Mirror) attempt(ctx context.Context, full string) PassResult {
	r := reading{m: m, started: m.config.Now()}
	defer m.update(func(s *Status) { s.Running = nil })
	var err error
	if r.root, err = m.connect(ctx); err == nil {
		err = r.run(ctx, full)
	}
	r.logMoreUnread()
	if err != nil && !ownError(err) {
		m.hangUp()
	}
	if err != nil {
		r.info.Started, r.info.Kind, r.info.Controller = r.started, r.kind, r.root.DNSHostName
	}
	return PassResult{Info: r.info, Err: err}
}
