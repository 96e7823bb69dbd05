package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
)

var (
	errLeaseHeld = errors.New("another hub publishes this directory")
	errLeaseLost = errors.New("the lease was lost; another hub may publish now")
)

// lease is the right to publish a directory. It expires unless the hub renews it. It only keeps hubs from
// interrupting each other. Consistency does not depend on it: each message names the sequence that it expects
// to follow.
type lease struct {
	kv       jetstream.KeyValue
	dir      string
	key      string
	value    []byte
	ttl      time.Duration
	revision uint64
	hub      string // name of this hub
	former   string // ID of the lease in the stored place of this hub; empty means none
}

// waitSuffix ends the key under which a hub announces that it waits for a lease and that its directory is not
// behind. The key expires unless the hub renews it.
const waitSuffix = ".wait"

// holder is the value of a lease, and of the key of a waiting hub.
type holder struct {
	Lease string `json:"lease"` // the subject of this value
	Hub   string `json:"hub"`
	ID    string `json:"id"` // of one run of a hub
}

// holderOf parses the value of a lease. ok is false for any other value, because an edge can make the engine
// write an answer to this subject.
func holderOf(dir string, value []byte) (h holder, ok bool) {
	err := decode(value, &h)
	return h, err == nil && h.Lease == leaseSubject(dir) && h.Hub != "" && h.ID != "" && validText(h.Hub)
}

// acquire takes the lease. It returns errLeaseHeld if another hub holds it.
func (p *Publisher) acquire(ctx context.Context, js jetstream.JetStream) (*lease, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	answerCtx, cancelAnswer := context.WithTimeout(ctx, answerTimeout)
	kv, err := js.KeyValue(answerCtx, leaseBucket)
	cancelAnswer()
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, &kindError{directory.ErrRefused, errNotCreated.Error(), err}
	}
	if err != nil {
		return nil, explain(err)
	}
	l := &lease{kv: kv, dir: p.config.Directory, key: token(p.config.Directory), ttl: p.config.LeaseTTL}
	h := holder{leaseSubject(p.config.Directory), p.config.Client.Name(), p.id}
	at, err := p.place()
	if err != nil {
		return nil, err
	}
	l.hub, l.former = h.Hub, at.Lease
	if l.value, err = json.Marshal(h); err != nil {
		return nil, err
	}
	if p.config.State().Behind && l.isWanted(ctx) {
		p.standBy(ctx, js, l)
		return nil, errLeaseHeld
	}
	if err = l.take(ctx); err == nil {
		p.config.Log.Info("this hub publishes the directory now")
		p.update(func(s *PublisherStatus) { s.Leading, s.Holder = true, h.Hub })
		return l, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, explain(err)
	}
	p.standBy(ctx, js, l)
	return nil, errLeaseHeld
}

// take creates the lease. It resumes a lease that this hub still holds because its connection was lost or its
// process was killed. It returns jetstream.ErrKeyExists if another hub holds the lease.
//
// The store of a hub proves that the hub held the lease: the ID of the lease is in the store, and only one
// process can open a store. If the store was copied, the copy resumes the lease once and uses an ID of its own
// afterwards. Until the other process notices, the expected sequences keep the two apart.
func (l *lease) take(ctx context.Context) (err error) {
	if l.revision, err = l.kv.Create(ctx, l.key, l.value); !errors.Is(err, jetstream.ErrKeyExists) {
		return err
	}
	if taken := l.retake(ctx); !errors.Is(taken, errLeaseLost) && !isConflict(taken) {
		l.former = "" // it was resumed once
		return taken  // resume at most once
	}
	return err
}

// isFormer reports whether h is the lease that this hub held before its process was killed.
func (l *lease) isFormer(h holder) bool { return l.former != "" && h.ID == l.former && h.Hub == l.hub }

// isWanted reports whether another hub, whose directory is not behind, waits for the lease.
func (l *lease) isWanted(ctx context.Context) bool {
	entry, err := l.kv.Get(ctx, l.key+waitSuffix)
	if err != nil || bytes.Equal(entry.Value(), l.value) {
		return false
	}
	_, ok := holderOf(l.dir, entry.Value())
	return ok
}

// request announces that this hub waits for the lease, unless its directory is behind.
func (p *Publisher) request(ctx context.Context, l *lease) {
	if p.config.State().Behind || time.Since(p.waitedAt) < l.ttl/3 {
		return
	}
	if _, err := l.kv.Put(ctx, l.key+waitSuffix, l.value); err != nil {
		p.config.Log.Debug("cannot report to the other hub that this one waits", "error", err)
		return
	}
	p.waitedAt = time.Now()
}

// standBy records the holder of the lease, requests the lease, and watches the stream of the other hub.
func (p *Publisher) standBy(ctx context.Context, js jetstream.JetStream, l *lease) {
	p.request(ctx, l)
	if entry, err := l.kv.Get(ctx, l.key); err == nil {
		if h, ok := holderOf(l.dir, entry.Value()); ok {
			p.update(func(s *PublisherStatus) {
				s.Holder, s.Leading = h.Hub, false
				s.Edges, s.EdgesAt, s.EdgesError, s.Due = nil, time.Time{}, nil, 0 // the holder reads the reports
			})
		}
	}
	v, err := look(ctx, js, p.config.Directory)
	if err != nil || !v.found {
		return
	}
	p.watched.see(v)
	p.update(func(s *PublisherStatus) {
		s.Generation, s.Sequence, s.Digest = v.state.Generation, v.state.Sequence, v.state.Digest
	})
}

// watched records what a hub saw of the stream while another hub published.
type watched struct {
	view   view
	broken bool // the stream went back while it was watched
}

func (w *watched) see(v view) {
	if w.view.found && w.view.same(v) && (v.state.Sequence < w.view.state.Sequence || v.last < w.view.last) {
		w.broken = true
	}
	if !w.view.same(v) {
		w.broken = false
	}
	w.view = v
}

// continues reports whether this hub may continue the generation of a stream: the stream never went back while
// the hub watched it. A hub that has just started continues too. After a new generation, an edge could not tell
// by its sequence that a backup with the former generation was restored.
func (w *watched) continues(v view) bool {
	w.see(v)
	return w.view.found && !w.broken
}

// keep renews the lease until ctx ends. It returns errLeaseLost if renewal fails for too long.
func (l *lease) keep(ctx context.Context) error {
	renewed := time.Now()
	ticker := time.NewTicker(l.ttl / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		began := time.Now()
		step, cancel := context.WithTimeout(ctx, l.ttl/4)
		revision, err := l.kv.Update(step, l.key, l.value, l.revision)
		if err == nil {
			l.revision = revision
		} else if isConflict(err) {
			err = l.retake(step)
		}
		cancel()
		switch {
		case err == nil:
			renewed = began
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLeaseLost):
			return err
		case time.Since(renewed) > l.ttl*3/4:
			return fmt.Errorf("%w: %w", errLeaseLost, err)
		}
	}
}

// retake overwrites the lease if its value is not a lease, or is a lease of this hub. It returns errLeaseLost
// if another hub holds the lease, or if the lease has expired.
func (l *lease) retake(ctx context.Context) error {
	entry, err := l.kv.Get(ctx, l.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return errLeaseLost
	case err != nil:
		return err
	}
	if h, ok := holderOf(l.dir, entry.Value()); ok && !bytes.Equal(entry.Value(), l.value) && !l.isFormer(h) {
		return errLeaseLost
	}
	revision, err := l.kv.Update(ctx, l.key, l.value, entry.Revision())
	if err == nil {
		l.revision = revision
	}
	return err
}

// isConflict reports whether the engine rejected a message because of its expected sequence.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// release gives up the lease, which saves another hub the wait until it expires.
func (l *lease) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = l.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision)) // on failure, the lease expires
}
