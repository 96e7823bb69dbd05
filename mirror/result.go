package mirror

import (
	"time"

	"rcpt-milter/store"
)

// PassResult is the result of one pass.
type PassResult struct {
	Info store.PassInfo // of a failed pass only kind, controller and start
	Err  error
}

// recordNotRun records why no pass can run. This does not count as a failed pass.
func (m *Mirror) recordNotRun(err error) {
	m.updateStatus(func(s *Status) {
		if s.LastError == nil {
			s.LastError, s.FailingSince = err, m.config.Now()
		}
	})
}

// recordResult logs the result of a pass and passes it to the observer.
func (m *Mirror) recordResult(r PassResult) {
	now := m.config.Now()
	if r.Err == nil && r.Info.Kind == store.Full {
		m.recordFullDone()
	}
	m.updateStatus(func(s *Status) {
		s.LastError = r.Err
		if r.Err == nil {
			s.FailingSince = time.Time{}
		} else if s.FailingSince.IsZero() {
			s.FailingSince = now
		}
	})
	if m.config.Observe.Pass != nil {
		m.config.Observe.Pass(r)
	}
	i := r.Info
	switch {
	case r.Err != nil:
		m.config.Log.Error("pass failed", "kind", i.Kind, "controller", i.Controller, "error", r.Err)
	case i.Kind == store.Full || i.Added+i.Removed > 0:
		m.config.Log.Info("pass done", "pass", i.Number, "kind", i.Kind, "controller", i.Controller, "usn", i.USN,
			"seen", i.Seen, "added", i.Added, "changed", i.Changed, "removed", i.Removed,
			"took", i.Ended.Sub(i.Started))
	default:
		m.config.Log.Debug("pass done", "pass", i.Number, "kind", i.Kind, "usn", i.USN, "seen", i.Seen)
	}
}
