package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/stream"
)

const (
	// reportInterval is the interval between reports of an edge to the hub without events. It must stay well
	// below control.EdgeSilentAfter.
	reportInterval = 30 * time.Second
	// reportPause is the shortest interval between two reports.
	reportPause = time.Second
	// reportTimeout limits one report.
	reportTimeout = 10 * time.Second
)

// followDebounce is the shortest interval between two passes of an edge that states of the hub trigger.
const followDebounce = 20 * time.Millisecond

// follower reports to the hub how this edge follows one directory.
type follower struct {
	directory string
	link      *link
	mirror    *mirror.Mirror
	store     *store.Store
	version   string
	log       *slog.Logger
	passed    chan struct{} // signals the end of a pass; capacity 1
	lag       atomic.Int64  // from the last change in the hub's stream to its effect here

	mu       sync.Mutex
	digestOK *bool // result of the last comparison; nil means none yet
}

// Run sends reports after passes and at intervals until ctx ends.
func (f *follower) Run(ctx context.Context) error {
	interval := time.NewTicker(reportInterval)
	defer interval.Stop()
	for {
		f.report(ctx)
		pause := time.NewTimer(reportPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-interval.C:
		case <-f.passed:
		}
	}
}

// wake triggers a report.
func (f *follower) wake() {
	select {
	case f.passed <- struct{}{}:
	default:
	}
}

func (f *follower) report(ctx context.Context) {
	client, err := f.link.connect()
	if err != nil || !client.Status().Connected {
		return // the hub detects silent edges
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if err := client.Report(ctx, f.directory, f.current()); err != nil && ctx.Err() == nil {
		f.log.Debug("cannot report to the hub", "error", err)
	}
}

// current returns the current report of this edge.
func (f *follower) current() stream.EdgeReport {
	s := f.mirror.Status()
	r := stream.EdgeReport{Version: f.version, State: string(stateOf(s.State)), Sequence: s.USN, Held: s.HeldAddresses,
		Lag: time.Duration(f.lag.Load()), Error: errorText(s.LastError)}
	if !s.InvocationID.IsZero() {
		r.Generation = s.InvocationID.String()
	}
	if digest, err := f.store.Digest(f.directory); err == nil {
		r.Addresses = digest.Addresses
	}
	if ok := f.compare(s); ok != nil {
		r.DigestOK = *ok
	}
	return r
}

// compare compares the digest of the index with the digest that the hub published, and returns the result. If
// the hub's digest is for another state than the index, it returns the previous result.
func (f *follower) compare(s mirror.Status) *bool {
	client, _ := f.link.current()
	f.mu.Lock()
	defer f.mu.Unlock()
	if client == nil {
		return f.digestOK
	}
	hub := client.Hub(f.directory)
	if !hub.Known || s.Running != nil || hub.Sequence != s.USN || hub.Generation != directory.GUID(s.InvocationID) {
		return f.digestOK
	}
	own, err := f.store.Digest(f.directory)
	if err != nil {
		return f.digestOK
	}
	ok := own == hub.Digest
	f.digestOK = &ok
	return f.digestOK
}

// status returns how this edge follows the directory.
func (f *follower) status(now time.Time) *control.StreamStatus {
	s := f.mirror.Status()
	out := &control.StreamStatus{Link: f.link.status(), Sequence: s.USN, DigestOK: f.compare(s),
		NotNewer: errors.Is(s.LastError, mirror.ErrNotNewer)}
	if !s.InvocationID.IsZero() {
		out.Generation = s.InvocationID.String()
	}
	if client, _ := f.link.current(); client != nil {
		out.SharedName = client.SharedName(f.directory)
	}
	hub, ok := f.hub()
	if !ok {
		return out
	}
	out.Hub, out.HubVersion, out.Controller = hub.Name, hub.Version, hub.Controller
	out.Unreadable, out.TooLarge = hub.Unreadable, hub.TooLarge
	out.Generation = hub.Generation.String()
	if !s.LastGood.IsZero() {
		out.AsOf = control.Time{Time: s.LastGood}
	}
	return out
}

// hub returns the hub whose state was read last.
func (f *follower) hub() (stream.Hub, bool) {
	client, _ := f.link.current()
	if client == nil {
		return stream.Hub{}, false
	}
	hub := client.Hub(f.directory)
	return hub, hub.Known
}

// streamCandidates returns the stream of a directory as a candidate, in place of domain controllers.
func streamCandidates(d config.Directory, l *link, log *slog.Logger) []mirror.Candidate {
	return []mirror.Candidate{{
		Name: streamText(*d.Stream),
		Dial: func(ctx context.Context) (mirror.Source, error) {
			client, err := l.connect()
			if err != nil {
				return nil, err
			}
			source, err := client.Source(d.Name, stream.SourceOptions{Log: log.With("directory", d.Name)})
			if err != nil { // do not return a nil *Source as a non-nil Source
				return nil, err
			}
			return source, nil
		},
	}}
}
