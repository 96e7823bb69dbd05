package mirror

import (
	"context"
	"time"

	"rcpt-milter/store"
)

// A due full pass is a safety net, because incremental passes are still possible. It follows an incremental
// pass. If it fails, incremental passes continue, and it is retried later.

const (
	// firstFullRetry is the delay before the first retry of a due full pass. It doubles after each further
	// failure.
	firstFullRetry = time.Minute

	// maxFullRetry is the longest delay between two attempts.
	maxFullRetry = time.Hour
)

// retries spaces the attempts at a due full pass. The zero value permits an attempt.
type retries struct {
	pause time.Duration
	next  time.Time
}

// allowed reports whether an attempt may be made now. A clock that was set back does not delay it.
func (r retries) allowed(now time.Time) bool { return !now.Before(r.next) || r.next.Sub(now) > r.pause }

// afterFailure returns the state after another failure. every is the interval of full passes.
func (r retries) afterFailure(now time.Time, every time.Duration) retries {
	pause := min(max(2*r.pause, firstFullRetry), maxFullRetry, every)
	return retries{pause, now.Add(pause)}
}

// runDueFull runs the due full pass after an incremental one. If it fails, runDueFull returns the result of the
// incremental pass, because the next incremental pass must not be delayed.
func (m *Mirror) runDueFull(ctx context.Context, changes PassResult) PassResult {
	if !m.retries.allowed(m.config.Now()) {
		return changes
	}
	full := m.recoverPass(func() PassResult { return m.attempt(ctx, m.fullDue) })
	switch {
	case ctx.Err() != nil:
		return full
	case full.Err == nil, m.changesHidden: // then the incremental pass has not seen the changes either
		m.recordResult(full)
		return full
	}
	m.recordFullFailure(full)
	return changes
}

// recordFullDone records that no full pass is due.
func (m *Mirror) recordFullDone() {
	m.retries = retries{}
	m.updateStatus(func(s *Status) { s.FullError, s.FullFailingSince = nil, time.Time{} })
}

// recordFullFailure records that a due full pass has failed.
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
	m.config.Log.Warn("full pass failed, incremental passes continue", "why", m.fullDue,
		"controller", full.Info.Controller, "error", full.Err, "again", m.retries.pause)
	if m.config.Observe.Pass != nil {
		full.Info.Kind = store.Full
		m.config.Observe.Pass(full)
	}
}
