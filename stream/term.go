package stream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

const (
	// batchSize is the number of changed objects that are published together.
	batchSize = 5000

	// auditInterval is the shortest time between two comparisons that edges or the size of the
	// stream cause.
	auditInterval = 10 * time.Minute
)

// term is a period in which this hub holds the lease.
type term struct {
	p     *Publisher
	js    jetstream.JetStream
	lease *lease

	id         string
	created    time.Time // of the stream
	generation directory.GUID
	last       uint64               // sequence of the last message, which the next one expects
	withheld   map[store.GUID]extra // what only another hub knew, see compare
	until      time.Time            // when it is no longer published
	comparedAt time.Time
	tooLarge   map[store.GUID]bool // objects that no message can hold

	sent    bool      // objects were published since the last state
	changed uint64    // sequence of the last state after objects; 0 means unknown
	due     uint64    // the value of changed that edges have had the time to follow
	next    uint64    // the following value of due; 0 means none
	nextAt  time.Time // when next was published
}

// maxTooLarge limits the objects of a place.
const maxTooLarge = 40

// place is where a hub published last. The store keeps it.
type place struct {
	Generation directory.GUID `json:"generation"`
	Created    time.Time      `json:"created"` // of the stream
	Mark       string         `json:"mark"`    // of the last state
	Sequence   uint64         `json:"sequence"`
	Withheld   bool           `json:"withheld,omitempty"` // the next term has to compare
	TooLarge   []store.GUID   `json:"too_large,omitempty"`
	Unnamed    bool           `json:"unnamed,omitempty"` // the stream has no names of objects
	Lease      string         `json:"lease,omitempty"`   // ID of the lease of that time
}

// run continues where this hub stopped, or compares the stream with the store first, and publishes
// until ctx ends or something fails.
func (t *term) run(ctx context.Context) error {
	t.id = rand.Text()
	if err := t.begin(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(t.p.config.Poll)
	defer timer.Stop()
	audits := time.NewTicker(t.p.config.Poll) // wakes may come as often
	defer audits.Stop()
	for {
		err := t.publish(ctx)
		if err != nil {
			return err
		}
		t.p.record(nil)
		timer.Reset(min(t.p.config.Poll, t.untilRelease()))
		select {
		case <-ctx.Done():
			return nil
		case <-t.p.wake:
		case <-timer.C:
		case <-audits.C:
			if t.p.config.State().Behind && t.lease.isWanted(ctx) {
				t.p.config.Log.Info("another hub takes over, because the directory of this one is late or stale")
				return errLeaseHeld
			}
			if err := t.audit(ctx); err != nil {
				return err
			}
		}
	}
}

// untilRelease returns how long objects are still withheld.
func (t *term) untilRelease() time.Duration {
	if len(t.withheld) == 0 {
		return t.p.config.Poll
	}
	return max(t.until.Sub(t.p.config.Now()), time.Millisecond)
}

// begin decides whether the stream is as this hub left it. A generation continues only if no message can
// have been lost since this hub read the stream last. Otherwise a follower could be ahead of the stream
// and miss the next messages.
func (t *term) begin(ctx context.Context) error {
	v, err := t.look(ctx)
	if err != nil {
		return err
	}
	at, err := t.p.place()
	if err != nil {
		return err
	}
	mine := v.found && at.Mark == v.state.Mark && at.Sequence == v.state.Sequence &&
		at.Generation == v.state.Generation && at.Created.Equal(v.created)
	seen := v.found && t.p.watched.continues(v)
	if t.p.renew {
		mine, seen, t.p.renew = false, false, false
	}
	t.p.watched = watched{}
	t.created, t.last = v.created, v.last
	if t.generation = v.state.Generation; !mine && !seen {
		if _, err := rand.Read(t.generation[:]); err != nil {
			return err
		}
		t.p.config.Log.Info("the stream gets a new generation, so edges read everything", "stream had a state", v.found)
	}
	if mine || seen {
		t.changed, t.due = v.state.Changed, v.state.Changed
	}
	if mine && v.last == v.state.Sequence && !at.Withheld && at.Unnamed != t.p.config.Names {
		t.tooLarge = map[store.GUID]bool{}
		for _, guid := range at.TooLarge {
			t.tooLarge[guid] = true
		}
		return nil
	}
	return t.compare(ctx, t.p.config.Lag)
}

// place returns where this hub published last. The zero value means nowhere.
func (p *Publisher) place() (at place, err error) {
	saved, err := p.config.Store.FeedPlace(p.config.Directory)
	if err != nil || json.Unmarshal(saved, &at) != nil {
		return place{}, err
	}
	return at, nil
}

func (t *term) look(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	v, err := look(ctx, t.js, t.p.config.Directory)
	if errors.Is(err, errPayload) { // of a newer version, or garbage
		err, v.found = nil, false
	}
	return v, err
}

// publish publishes the changes, and then the state. The age in the state is read before the changes, so
// the changes are at least as recent.
func (t *term) publish(ctx context.Context) error {
	dir, s := t.p.config.Directory, t.p.config.Store
	if len(t.withheld) > 0 && !t.p.config.Now().Before(t.until) {
		if err := t.compare(ctx, 0); err != nil {
			return err
		}
	}
	for {
		source, asked := t.p.config.State(), time.Now()
		if !source.Ready {
			return errNotReady
		}
		if err := t.changes(ctx); err != nil {
			return err
		}
		digest, err := s.Digest(dir)
		if err != nil {
			return err
		}
		if more, err := s.FeedChanges(dir, 1); err != nil {
			return err
		} else if len(more) == 0 {
			source.Age += time.Since(asked)
			return t.state(ctx, source, t.withWithheld(digest))
		}
	}
}

// changes publishes the changed objects until there are no more. Those that only gain come first, so
// an address that moves always has an owner.
func (t *term) changes(ctx context.Context) error {
	dir, s := t.p.config.Directory, t.p.config.Store
	for {
		list, err := s.FeedChanges(dir, batchSize)
		if err != nil || len(list) == 0 {
			return err
		}
		t.p.update(func(status *PublisherStatus) { status.Pending = len(list) })
		if err := t.objects(ctx, list); err != nil {
			return err
		}
		if err := s.FeedDone(dir, list); err != nil {
			return err
		}
		t.p.update(func(status *PublisherStatus) { status.Pending = 0 })
	}
}

// state publishes a state and stores the place.
func (t *term) state(ctx context.Context, source SourceState, digest store.Digest) error {
	if t.sent {
		t.changed = t.last + 1
	}
	at := state{Generation: t.generation, Mark: rand.Text(), Term: t.id, Hub: t.p.config.Client.config.Name,
		Version: t.p.config.Version, Controller: source.Controller, Age: source.Age, AgeUnknown: source.AgeUnknown,
		Pass: source.Pass, Digest: digest, Sequence: t.last + 1, Changed: t.changed}
	data, err := at.encode(t.p.config.Directory)
	if err != nil {
		return err
	}
	if err := t.send(ctx, []message{{subject: stateSubject(t.p.config.Directory), data: data}}); err != nil {
		return err
	}
	t.sent = false
	here := place{Generation: t.generation, Created: t.created, Mark: at.Mark, Sequence: t.last,
		Withheld: len(t.withheld) > 0, Unnamed: !t.p.config.Names, Lease: t.p.id}
	if len(t.tooLarge) <= maxTooLarge {
		here.TooLarge = slices.Collect(maps.Keys(t.tooLarge))
	} else { // they do not fit; a comparison finds them again
		here.Withheld = true
	}
	saved, err := json.Marshal(here)
	if err != nil {
		return err
	}
	now := t.p.config.Now()
	t.p.update(func(s *PublisherStatus) {
		s.Generation, s.Sequence, s.Published, s.Digest = t.generation, t.last, now, digest
		s.Withheld, s.TooLarge = len(t.withheld), len(t.tooLarge)
	})
	return t.p.config.Store.SetFeedPlace(t.p.config.Directory, saved)
}

// audit compares again if the stream lacks messages, or if the index of an edge differs.
func (t *term) audit(ctx context.Context) error {
	v, err := t.look(ctx)
	if err != nil {
		return err
	}
	t.settle(time.Now())
	edges, err := t.p.config.Client.Edges(ctx, t.p.config.Directory)
	if err != nil {
		t.p.config.Log.Debug("cannot read the reports of edges", "error", err)
	}
	digest := store.Digest{}
	t.p.update(func(s *PublisherStatus) { s.Edges, s.Due, digest = edges, t.due, s.Digest })
	switch {
	case t.isBehind(edges) && (t.p.renewedAt.IsZero() || time.Since(t.p.renewedAt) > auditInterval):
		t.p.renew, t.p.renewedAt = true, time.Now()
		return errBehindEdges
	case v.messages < digest.Objects+1:
		t.p.config.Log.Warn("messages of the stream were removed by another program, and are published again")
	case t.complains(edges) && (t.comparedAt.IsZero() || time.Since(t.comparedAt) > auditInterval):
		t.p.config.Log.Warn("an edge has other addresses than this hub, so the stream is compared")
	default:
		return nil
	}
	return t.compare(ctx, t.p.config.Lag)
}

// reportTime is how long the report of an edge may take after a change.
const reportTime = 5 * time.Second

// settle updates due, the last change that edges have had the time to report. States without changes do not
// count: an edge that has not read them has all changes.
func (t *term) settle(now time.Time) {
	if t.next != 0 && now.Sub(t.nextAt) >= reportTime {
		t.due, t.next = t.next, 0
	}
	if t.next == 0 && t.changed > t.due {
		t.next, t.nextAt = t.changed, now
	}
}

// errBehindEdges ends a term whose stream was set back together with this hub, so nothing at the hub shows
// it. The next term begins a new generation, and edges read everything.
var errBehindEdges = errors.New("an edge has read more than the stream has: engine and hub were restored together")

// isBehind reports whether an edge has read more of this generation than there is.
func (t *term) isBehind(edges []EdgeReport) bool {
	return slices.ContainsFunc(edges, func(e EdgeReport) bool {
		return e.Generation == t.generation.String() && e.Sequence > t.last && e.Age < auditInterval
	})
}

// complains reports whether an edge of this generation differs although nothing is held there.
func (t *term) complains(edges []EdgeReport) bool {
	for _, e := range edges {
		if !e.DigestOK && e.Held == 0 && e.Generation == t.generation.String() && e.Age < 2*t.p.config.Poll {
			return true
		}
	}
	return false
}
