package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

var (
	errLeaseHeld = errors.New("another hub publishes this directory")
	errLeaseLost = errors.New("the lease was lost; another hub may publish now")
)

// lease is the right to publish a directory. The engine ends it unless it is renewed. It only keeps
// hubs from interrupting each other: the expected last sequence of each message keeps the stream
// consistent.
type lease struct {
	kv       jetstream.KeyValue
	dir      string
	key      string
	value    []byte
	ttl      time.Duration
	revision uint64
	hub      string // the name of this hub
	former   string // ID of the lease that this hub stored with its last place; empty means none
}

// waitSuffix ends the key by which a hub reports that it waits for a lease, and that its directory is not
// behind. The engine removes the key unless it is renewed.
const waitSuffix = ".wait"

// holder is the value of a lease, and of the key of a hub that waits for it.
type holder struct {
	Lease string `json:"lease"` // the subject that it was written to
	Hub   string `json:"hub"`
	ID    string `json:"id"` // of this run
}

// holderOf reads the value of a lease. It reports false for any other value: an edge can make the
// engine write an answer there.
func holderOf(dir string, value []byte) (h holder, ok bool) {
	err := decode(value, &h)
	return h, err == nil && h.Lease == leaseSubject(dir) && h.Hub != "" && h.ID != "" && validText(h.Hub)
}

// acquire takes the lease. It returns errLeaseHeld while another hub has it.
func (p *Publisher) acquire(ctx context.Context, js jetstream.JetStream) (*lease, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	kv, err := js.KeyValue(ctx, leaseBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = p.createBucket(ctx, js)
	}
	if err != nil {
		return nil, explain(err)
	}
	l := &lease{kv: kv, dir: p.config.Directory, key: token(p.config.Directory), ttl: p.config.LeaseTTL}
	h := holder{leaseSubject(p.config.Directory), p.config.Client.config.Name, p.id}
	at, err := p.place()
	if err != nil {
		return nil, err
	}
	l.hub, l.former = h.Hub, at.Lease
	if l.value, err = json.Marshal(h); err != nil {
		return nil, err
	}
	if p.config.State().Behind && l.isWanted(ctx) {
		p.stand(ctx, js, l)
		return nil, errLeaseHeld
	}
	if err = l.take(ctx); err == nil {
		p.config.Log.Info("this hub publishes the directory now")
		p.update(func(s *PublisherStatus) { s.Leading, s.Holder = true, p.config.Client.config.Name })
		return l, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, explain(err)
	}
	p.stand(ctx, js, l)
	return nil, errLeaseHeld
}

// take creates the lease. One that this hub did not give up, because it lost its connection or was
// killed, is resumed. It returns jetstream.ErrKeyExists if another hub has the lease.
//
// A killed hub proves by its store that the lease was its own: the store has the ID of that lease, and only
// one process opens a store. If the store was copied, the copy takes the lease once and has another ID from
// then on. Until the other process notices, the expected sequences keep the two apart.
func (l *lease) take(ctx context.Context) (err error) {
	if l.revision, err = l.kv.Create(ctx, l.key, l.value); !errors.Is(err, jetstream.ErrKeyExists) {
		return err
	}
	if taken := l.retake(ctx); !errors.Is(taken, errLeaseLost) && !isConflict(taken) {
		l.former = "" // it was resumed once
		return taken
	}
	return err
}

// isFormer reports whether a lease is that of this hub before it was killed.
func (l *lease) isFormer(h holder) bool { return l.former != "" && h.ID == l.former && h.Hub == l.hub }

// isWanted reports whether another hub waits whose directory is not behind.
func (l *lease) isWanted(ctx context.Context) bool {
	entry, err := l.kv.Get(ctx, l.key+waitSuffix)
	if err != nil || bytes.Equal(entry.Value(), l.value) {
		return false
	}
	_, ok := holderOf(l.dir, entry.Value())
	return ok
}

// ask reports that this hub waits for the lease, unless its directory is behind.
func (p *Publisher) ask(ctx context.Context, l *lease) {
	if p.config.State().Behind || time.Since(p.waitedAt) < l.ttl/3 {
		return
	}
	if _, err := l.kv.Put(ctx, l.key+waitSuffix, l.value); err != nil {
		p.config.Log.Debug("cannot report to the other hub that this one waits", "error", err)
		return
	}
	p.waitedAt = time.Now()
}

// createBucket creates the bucket of the leases, with as many replicas as the engine can.
func (p *Publisher) createBucket(ctx context.Context, js jetstream.JetStream) (kv jetstream.KeyValue, err error) {
	for _, replicas := range p.replicas() {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: leaseBucket, TTL: p.config.LeaseTTL,
			History: 1, Replicas: replicas, MaxBytes: 1 << 20, Description: "which hub publishes a directory"})
		if err == nil || errors.Is(err, jetstream.ErrBucketExists) {
			break
		}
	}
	if errors.Is(err, jetstream.ErrBucketExists) {
		return js.KeyValue(ctx, leaseBucket)
	}
	return kv, err
}

// stand records the holder of the lease, asks for it, and watches the stream of the other hub.
func (p *Publisher) stand(ctx context.Context, js jetstream.JetStream, l *lease) {
	p.ask(ctx, l)
	if entry, err := l.kv.Get(ctx, l.key); err == nil {
		if h, ok := holderOf(l.dir, entry.Value()); ok {
			p.update(func(s *PublisherStatus) { s.Holder, s.Leading = h.Hub, false })
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

// watched is what a hub saw of the stream while another hub published.
type watched struct {
	view   view
	broken bool // the stream went back meanwhile
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

// continues reports whether a stream never went back while this hub watched it. A hub that has just started
// saw nothing, and continues the generation too: with a new one, an edge could not tell from its sequence
// that a backup of the stream with the former generation was restored.
func (w *watched) continues(v view) bool {
	w.see(v)
	return w.view.found && !w.broken
}

// keep renews the lease until ctx ends. It returns errLeaseLost if that fails for too long.
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

// retake writes the lease over a value that is no lease, or that is this one after all. It returns
// errLeaseLost if another hub has it, or if it has expired.
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

// isConflict reports whether the engine rejected a message because of its expected last sequence.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// release gives up the lease, so another hub does not have to wait.
func (l *lease) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = l.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision)) // it expires otherwise
}
