package mirror

import (
	"context"
	"time"

	"rcpt-milter/store"
)

// A full pass that is due, while an incremental one would do, is a safety net. It follows
// an incremental pass, and if it fails, incremental passes go on: it is tried again later.

const (
	// retryFirst is how long after its first failure a full pass that is due is tried again.
	// Each further failure doubles it.
	firstFullRetry = time.Minute

	// retryMost is the longest time between two attempts.
	maxFullRetry = time.Hour
)

// retries spaces the attempts at a full pass that is due. The zero value lets one begin.
type retries struct {
	pause time.Duration
	next  time.Time
}

// may reports whether it is time for an attempt. A clock that was set back delays none.
func (r retries) allowed(now time.Time) bool { return !now.Before(r.next) || r.next.Sub(now) > r.pause }

// failed is after another failure, of a pass that should run every so often.
func (r retries) afterFailure(now time.Time, every time.Duration) retries {
	pause := min(max(2*r.pause, firstFullRetry), maxFullRetry, every)
	return retries{pause, now.Add(pause)}
}

// periodic runs the full pass that is due after an incremental one. If it fails, the
// result is that of the incremental one, because the next of these must not be delayed.
func (m *Mirror) runDueFull(ctx context.Context, changes PassResult) PassResult {
	if !m.retries.allowed(m.config.Now()) {
		return changes
	}
	full := m.recoverPass(func() PassResult { return m.attempt(ctx, m.fullDue) })
	switch {
	case ctx.Err() != nil:
		return full
	case full.Err == nil:
		m.recordResult(full)
		return full
	}
	m.recordFullFailure(full)
	return changes
}

// fullDone notes that no full pass is due.
func (m *Mirror) recordFullDone() {
	m.retries = retries{}
	m.updateStatus(func(s *Status) { s.FullError, s.FullFailingSince = nil, time.Time{} })
}

// fullFailed notes that a full pass that was due has failed.
func (m *Mirror) recordFullFailure(full PassResult) {
	now, every := m.config.Now(), m.config.Full
	m.updateStatus(func(s *Status) {
		if s.DeletedHidden {
			every = min(every, deletedHiddenFullInterval)
		}
		s.FullError = full.Err
		if s.FullFailingSince.IsZero() {
			s.FullFailingSince = now
		}
	})
	m.retries = m.retries.afterFailure(now, every)
	m.config.Log.Warn("full pass failed, incremental passes go on", "why", m.fullDue, "controller", full.Info.Controller,
		"error", full.Err, "again", m.retries.pause)
	if m.config.Observe.Pass != nil {
		full.Info.Kind = store.Full
		m.config.Observe.Pass(full)
	}
}
