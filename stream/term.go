package stream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
	"rcpt-milter/internal/safely"
	"rcpt-milter/store"
)

const (
	// batchSize limits the changed objects that are published together.
	batchSize = 5000

	// auditInterval is the shortest interval between two comparisons that are caused by edges or by the size of
	// the stream.
	auditInterval = 10 * time.Minute
)

// term is a period in which this hub holds the lease.
type term struct {
	p     *Publisher
	js    jetstream.JetStream
	lease *lease

	id         string
	created    time.Time // creation time of the stream
	generation directory.GUID
	last       uint64               // sequence of the last message, which the next message expects
	withheld   map[store.GUID]extra // addresses that only another hub knew; see compare
	until      time.Time            // when withheld addresses are removed
	comparedAt time.Time
	tooLarge   map[store.GUID]bool // objects that do not fit in a message

	sent    bool      // objects were published after the last state
	changed uint64    // sequence of the last state that followed changed objects; 0 means unknown
	due     uint64    // the value of changed that edges have had time to apply
	next    uint64    // the next value of due; 0 means none
	nextAt  time.Time // when next was published

	reading bool           // readEdges runs
	reports chan edgesRead // results of readEdges; capacity 1
	readers sync.WaitGroup // running calls of readEdges
}

// edgesRead is what readEdges read.
type edgesRead struct {
	edges []EdgeReport
	at    time.Time // when reading began
	due   uint64    // term.due at that time
	err   error
}

// maxTooLarge limits the objects listed in a place.
const maxTooLarge = 40

// place records where a hub published last. The hub keeps it in its store.
type place struct {
	Generation directory.GUID `json:"generation"`
	Created    time.Time      `json:"created"` // creation time of the stream
	Mark       string         `json:"mark"`    // of the last state
	Sequence   uint64         `json:"sequence"`
	Withheld   bool           `json:"withheld,omitempty"` // the next term must compare
	TooLarge   []store.GUID   `json:"too_large,omitempty"`
	Unnamed    bool           `json:"unnamed,omitempty"` // the stream has no names of objects
	Lease      string         `json:"lease,omitempty"`   // ID of the lease at that time
}

// run continues where this hub stopped, or first makes the stream equal to the store. It then publishes until
// ctx ends or an error occurs.
func (t *term) run(ctx context.Context) error {
	t.id = rand.Text()
	if err := t.begin(ctx); err != nil {
		return err
	}
	t.reports = make(chan edgesRead, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer t.readers.Wait()
	defer cancel()
	timer := time.NewTimer(t.p.config.Poll)
	defer timer.Stop()
	audits := time.NewTicker(t.p.config.Poll) // Wake may be called just as often
	defer audits.Stop()
	for due := true; ; {
		if due {
			if err := t.publish(ctx); err != nil {
				return err
			}
			t.p.record(nil)
			timer.Reset(min(t.p.config.Poll, t.untilRelease()))
		}
		due = true
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
			t.readEdges(ctx)
			due = false
		case read := <-t.reports:
			t.reading = false
			var err error
			if due, err = t.audit(ctx, read); err != nil {
				return err
			}
		}
	}
}

// readEdges starts to read the reports of edges, unless a former call has not ended. There may be thousands, and
// the hub publishes meanwhile.
func (t *term) readEdges(ctx context.Context) {
	if t.reading {
		return
	}
	t.reading = true
	t.settle(time.Now())
	read := edgesRead{at: t.p.config.Now(), due: t.due}
	t.readers.Go(func() {
		read.err = safely.Do(t.p.config.Log, "reports of edges", func() (err error) {
			read.edges, err = t.p.config.Client.Edges(ctx, t.p.config.Directory)
			return err
		})
		t.reports <- read
	})
}

// untilRelease returns how much longer objects are withheld.
func (t *term) untilRelease() time.Duration {
	if len(t.withheld) == 0 {
		return t.p.config.Poll
	}
	return max(t.until.Sub(t.p.config.Now()), time.Millisecond)
}

// begin decides whether this hub continues the generation of the stream. It does so only if no message can have
// been lost since this hub last read the stream. Otherwise a follower could be ahead of the stream and miss the
// next messages.
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
		t.p.config.Log.Info("the stream gets a new generation, so edges read everything", "had_state", v.found)
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

// place returns where this hub published last. The zero value means that it never did.
func (p *Publisher) place() (at place, err error) {
	saved, err := p.config.Store.FeedPlace(p.config.Directory)
	if err != nil || json.Unmarshal(saved, &at) != nil {
		return place{}, err
	}
	return at, nil
}

func (t *term) look(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	v, err := look(ctx, t.js, t.p.config.Directory)
	if errors.Is(err, errPayload) { // a state of a newer version, or a damaged one
		err, v.found = nil, false
	}
	return v, err
}

// publish publishes the changes, followed by a state. It reads the age for the state before the changes, so the
// changes are at least that recent.
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

// changes publishes changed objects until none are left. Objects that only gain addresses come first, so an
// address that moves always has an owner.
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
	at := state{Generation: t.generation, Mark: rand.Text(), Term: t.id, Hub: t.p.config.Client.Name(),
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
	} else { // too many to store; the next comparison finds them again
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

// audit compares again if the stream lacks messages, or if the index of an edge differs. It reports whether it
// compared, so a state is due. If the reports could not be read, the status keeps the former ones.
func (t *term) audit(ctx context.Context, read edgesRead) (compared bool, err error) {
	v, err := t.look(ctx)
	if err != nil {
		return false, err
	}
	edges := read.edges
	if read.err != nil {
		t.p.config.Log.Debug("cannot read the reports of edges", "error", read.err)
	}
	digest := store.Digest{}
	t.p.update(func(s *PublisherStatus) {
		if s.EdgesError = read.err; read.err == nil {
			s.Edges, s.EdgesAt, s.Due = edges, read.at, read.due
		}
		digest = s.Digest
	})
	switch {
	case t.isBehind(edges) && (t.p.renewedAt.IsZero() || time.Since(t.p.renewedAt) > auditInterval):
		t.p.renew, t.p.renewedAt = true, time.Now()
		return false, errBehindEdges
	case v.messages < digest.Objects+1:
		t.p.config.Log.Warn("another program removed messages of the stream; publishing them again")
	case t.edgeDiffers(edges) && (t.comparedAt.IsZero() || time.Since(t.comparedAt) > auditInterval):
		t.p.config.Log.Warn("the addresses of an edge differ from those of this hub; comparing the stream")
	default:
		return false, nil
	}
	return true, t.compare(ctx, t.p.config.Lag)
}

// reportTime is how long an edge may take to report after a change.
const reportTime = 5 * time.Second

// settle updates due, the last change that edges have had time to report. States without changes do not count,
// because an edge that has not read them still has all changes.
func (t *term) settle(now time.Time) {
	if t.next != 0 && now.Sub(t.nextAt) >= reportTime {
		t.due, t.next = t.next, 0
	}
	if t.next == 0 && t.changed > t.due {
		t.next, t.nextAt = t.changed, now
	}
}

// errBehindEdges ends a term whose stream was set back together with the store of this hub. Nothing at the hub
// shows that; only the edges do. The next term starts a new generation, and edges read everything.
var errBehindEdges = errors.New("an edge has read more than the stream has: engine and hub were restored together")

// isBehind reports whether an edge has read more of this generation than the stream has.
func (t *term) isBehind(edges []EdgeReport) bool {
	return slices.ContainsFunc(edges, func(e EdgeReport) bool {
		return e.Generation == t.generation.String() && e.Sequence > t.last && e.Age < auditInterval
	})
}

// edgeDiffers reports whether an edge of this generation has another digest, although it holds no removals.
func (t *term) edgeDiffers(edges []EdgeReport) bool {
	for _, e := range edges {
		if !e.DigestOK && e.Held == 0 && e.Generation == t.generation.String() && e.Age < 2*t.p.config.Poll {
			return true
		}
	}
	return false
}
