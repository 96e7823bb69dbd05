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
	retryFirst = time.Minute

	// retryMost is the longest time between two attempts.
	retryMost = time.Hour
)

// retries spaces the attempts at a full pass that is due. The zero value lets one begin.
type retries struct {
	pause time.Duration
	next  time.Time
}

// may reports whether it is time for an attempt. A clock that was set back delays none.
func (r retries) may(now time.Time) bool { return !now.Before(r.next) || r.next.Sub(now) > r.pause }

// failed is after another failure, of a pass that should run every so often.
func (r retries) failed(now time.Time, every time.Duration) retries {
	pause := min(max(2*r.pause, retryFirst), retryMost, every)
	return retries{pause, now.Add(pause)}
}

// periodic runs the full pass that is due after an incremental one. If it fails, the
// result is that of the incremental one, because the next of these must not be delayed.
func (m *Mirror) periodic(ctx context.Context, changes PassResult) PassResult {
	if !m.retries.may(m.config.Now()) {
		return changes
	}
	full := m.protect(func() PassResult { return m.attempt(ctx, m.due) })
	switch {
	case ctx.Err() != nil:
		return full
	case full.Err == nil:
		m.finished(full)
		return full
	}
	m.fullFailed(full)
	return changes
}

// fullDone notes that no full pass is due.
func (m *Mirror) fullDone() {
	m.retries = retries{}
	m.update(func(s *Status) { s.FullError, s.FullFailingSince = nil, time.Time{} })
}

// fullFailed notes that a full pass that was due has failed.
func (m *Mirror) fullFailed(full PassResult) {
	now, every := m.config.Now(), m.config.Full
	m.update(func(s *Status) {
		if s.DeletedHidden {
			every = min(every, blindFull)
		}
		s.FullError = full.Err
		if s.FullFailingSince.IsZero() {
			s.FullFailingSince = now
		}
	})
	m.retries = m.retries.failed(now, every)
	m.config.Log.Warn("full pass failed, incremental passes go on", "why", m.due, "controller", full.Info.Controller,
		"error", full.Err, "again", m.retries.pause)
	if m.config.Observe.Pass != nil {
		full.Info.Kind = store.Full
		m.config.Observe.Pass(full)
	}
}
