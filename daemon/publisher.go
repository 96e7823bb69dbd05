package daemon

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	"rcpt-milter/store"
	"rcpt-milter/stream"
)

// linkRetry is the delay before another attempt to create a client whose configuration was unusable.
const linkRetry = time.Second

// publisher publishes one directory of this hub.
type publisher struct {
	directory config.Directory
	publish   config.Publish
	link      *link
	make      func(*stream.Client) *stream.Publisher

	mu     sync.Mutex
	inside *stream.Publisher // nil until a client exists
}

// Run publishes until ctx ends.
func (p *publisher) Run(ctx context.Context) error {
	client, err := p.link.connect()
	for ; err != nil; client, err = p.link.connect() {
		timer := time.NewTimer(linkRetry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
	return p.prepare(client).Run(ctx)
}

func (p *publisher) prepare(client *stream.Client) *stream.Publisher {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inside == nil {
		p.inside = p.make(client)
	}
	return p.inside
}

// wake requests publication without delay.
func (p *publisher) wake() {
	if inside := p.current(); inside != nil {
		inside.Wake()
	}
}

func (p *publisher) current() *stream.Publisher {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inside
}

// status returns the state of the publisher.
func (p *publisher) status(now time.Time) control.PublishStatus {
	out := control.PublishStatus{Directory: p.directory.Name, Link: p.link.status()}
	inside := p.current()
	if inside == nil {
		out.LastError, out.FailingSince = out.Link.LastError, out.Link.Since
		return out
	}
	s := inside.Status()
	out.Leading, out.Holder, out.Sequence, out.Pending = s.Leading, s.Holder, s.Sequence, int64(s.Pending)
	out.Due = s.Due
	out.Published, out.FailingSince = control.Time{Time: s.Published}, control.Time{Time: s.Since}
	out.LastError, out.Withheld, out.TooLarge = errorText(s.LastError), int64(s.Withheld), int64(s.TooLarge)
	if !s.Generation.IsZero() {
		out.Generation = s.Generation.String()
	}
	for _, e := range s.Edges {
		out.Edges = append(out.Edges, edgeOf(e, s.EdgesAt))
	}
	out.EdgesError = errorText(s.EdgesError)
	return out
}

// edgeOf converts the report of an edge that was read at a time.
func edgeOf(e stream.EdgeReport, read time.Time) control.EdgeStatus {
	return control.EdgeStatus{Name: e.Name, Version: e.Version, State: control.State(e.State), Generation: e.Generation,
		Sequence: e.Sequence, DigestOK: e.DigestOK, Held: int64(e.Held), Addresses: int64(e.Addresses),
		Lag: e.Lag.Seconds(), LastError: e.Error, Reported: control.Time{Time: read.Add(-e.Age)}}
}

// publishers are the publishers of one configuration.
type publishers []*publisher

// preparePublishers creates the publishers of a configuration. It reuses unchanged publishers.
func (f *fleet) preparePublishers(c *config.Config, all links) publishers {
	var next publishers
	for _, d := range c.Directories {
		if !c.Publishes(d) {
			continue
		}
		link := all.of(c.Publish.Stream)
		at := slices.IndexFunc(f.publishers, func(p *publisher) bool {
			return p.link == link && p.publish.Names == c.Publish.Names && reflect.DeepEqual(p.directory, d)
		})
		if at >= 0 {
			next = append(next, f.publishers[at])
			continue
		}
		next = append(next, f.newPublisher(*c.Publish, d, link))
	}
	return next
}

func (f *fleet) newPublisher(publish config.Publish, d config.Directory, link *link) *publisher {
	return &publisher{directory: d, publish: publish, link: link, make: func(client *stream.Client) *stream.Publisher {
		return stream.NewPublisher(stream.PublisherConfig{
			Client: client, Store: f.store, Directory: d.Name, Names: publish.Names, Poll: d.Poll, Version: f.version,
			State: func() stream.SourceState { return f.syncs.sourceState(d.Name) },
			Log:   f.log.With("directory", d.Name),
			// To the publisher, 0 means the default lag. In the configuration, 0 means no lag.
			Lag: max(d.ReplicationLag, 1),
			Find: func(ctx context.Context, a address.Address) (found, internalOnly bool, err error) {
				return f.find(ctx, d.Name, a)
			},
		})
	}}
}

// sourceState returns the freshness of a directory of this hub. A directory that is read under new rules is not
// ready, because its index does not yet prove addresses unknown.
func (sm *syncManager) sourceState(name string) stream.SourceState {
	at := slices.IndexFunc(sm.active(), func(d syncedDirectory) bool { return d.Name() == name })
	if at < 0 {
		return stream.SourceState{AgeUnknown: true}
	}
	m := sm.active()[at].Mirror
	state, _ := m.State()
	age, known := m.Age()
	stored := sm.store.Directory(name)
	return stream.SourceState{Ready: state != policy.NotReady && state != policy.Widening, Age: age, AgeUnknown: !known,
		Behind:     state == policy.Late || state == policy.Stale,
		Controller: m.Status().Controller, Pass: stored.Newest().Number}
}

// errNoConfirm is the answer to an edge while confirm is off at this hub.
var errNoConfirm = errors.New("confirm is off at the hub; set confirm.enabled there")

// stopFeeds stops recording changes of directories that are no longer published.
func stopFeeds(s *store.Store, next publishers, log *slog.Logger) {
	for _, name := range s.Directories() {
		if slices.ContainsFunc(next, func(p *publisher) bool { return p.directory.Name == name }) {
			continue
		}
		if err := s.SetFeed(name, false); err != nil {
			log.Warn("cannot end the recording of changes for edges", "directory", name, "error", err)
		}
	}
}
