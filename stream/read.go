package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// Read passes the objects of all messages after sequence since to page. If since is 0, it reads the whole
// stream. It returns at a state that ends the stream. It does not stop at an earlier state, where an address
// that moves may have no owner: the message of its new owner may come later.
//
// A full read fails unless the objects have the digest of that state.
func (s *Source) Read(ctx context.Context, since uint64, page func([]directory.Object) error) error {
	at, target, err := s.look(ctx)
	switch {
	case err != nil:
		return err
	case !s.isShown(target.state.Generation):
		return unusable("the stream was replaced before it was read", nil)
	case since > target.state.Sequence:
		return unusable("the stream was set back while it was read", nil)
	case since == target.state.Sequence:
		s.setCut(target.state)
		return nil
	}
	ctx, end := at.within(ctx)
	defer end()
	r := &reading{s: s, at: at, target: target, page: page, full: since == 0, tail: s.take(since, target)}
	if err := r.follow(ctx, since); err != nil {
		return whyEnded(ctx, err)
	}
	s.keep(r.tail)
	return nil
}

// isShown reports whether the last Root returned this generation. It returns true if there was no Root.
func (s *Source) isShown(generation directory.GUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.IsZero() || s.shown == generation
}

// follow reads with the kept tail, or with a new one. If the consumer of the kept tail is gone, for example
// because its node was lost, follow opens a new tail.
func (r *reading) follow(ctx context.Context, since uint64) (err error) {
	for kept := r.tail != nil; ; kept = false {
		if r.tail == nil {
			if err = r.open(ctx, since); err != nil {
				return err
			}
		}
		before := r.tail.received
		if err = r.run(ctx); err == nil {
			return nil
		}
		r.tail.close()
		if !kept || r.tail.received != before || !errors.Is(err, jetstream.ErrNoHeartbeat) {
			return err
		}
		r.tail = nil
	}
}

// open opens a new tail in this session.
func (r *reading) open(ctx context.Context, since uint64) (err error) {
	ctx, cancel := context.WithTimeout(ctx, r.s.options.Timeout)
	defer cancel()
	if r.tail, err = openTail(ctx, r.at.js, streamName(r.s.dir), "", since); err == nil {
		r.tail.created, r.tail.session = r.target.created, r.at
	}
	return err
}

// take returns the kept tail if it is at sequence since of the same stream and its consumer still exists.
func (s *Source) take(since uint64, v view) *tail {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.kept
	s.kept = nil
	if t == nil || t.position == since && t.created.Equal(v.created) && since != 0 && !t.session.over() &&
		time.Since(t.keptAt) < inactiveAfter/2 {
		return t
	}
	t.close()
	return nil
}

func (s *Source) keep(t *tail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		t.close()
		return
	}
	s.kept.close()
	s.kept, t.keptAt = t, time.Now()
}

func (s *Source) setCut(at state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = at
}

// reading is one call of Read.
type reading struct {
	s      *Source
	at     session
	target view
	tail   *tail
	page   func([]directory.Object) error
	full   bool

	batch      []directory.Object
	addresses  int  // in batch
	text       int  // bytes of text in batch
	sums       sums // digests of the objects of a full read
	unreadable int  // messages of another version, or damaged ones
	tooLarge   int  // objects that the hub reported as too large for a message
}

// run reads until it reaches a state that ends the stream.
func (r *reading) run(ctx context.Context) error {
	for {
		m, meta, err := r.next(ctx)
		if err != nil {
			return err
		}
		if m.Subject() != stateSubject(r.s.dir) {
			if err := r.object(m, meta); err != nil {
				return err
			}
			continue
		}
		at, err := decodeState(r.s.dir, meta.Sequence.Stream, m.Data())
		if err != nil {
			return unusable("the state that the hub published cannot be read", err)
		}
		if err := r.flush(); err != nil {
			return err
		}
		if at.Sequence < r.target.state.Sequence || meta.NumPending > 0 {
			continue
		}
		if done, err := r.isEnd(ctx, at); err != nil || done {
			return err
		}
	}
}

// next waits for the next message. If none arrives for some time, the hub has stopped within a pass.
func (r *reading) next(ctx context.Context) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	step, cancel := context.WithTimeout(ctx, r.s.options.Timeout)
	defer cancel()
	m, meta, err := r.tail.next(step)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = &kindError{directory.ErrTimeout,
			"the hub stopped within a pass; only whole passes are read, so this waits for its next one", err}
	}
	return m, meta, err
}

// object adds the object of a message to the page.
func (r *reading) object(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	guid, ok := guidOf(r.s.dir, m.Subject())
	if !ok {
		return nil // a kind of message of a later version
	}
	o, err := decodeObject(r.s.dir, guid, m.Data())
	switch {
	case errors.Is(err, errTooLarge):
		r.tooLarge++
	case err != nil:
		r.unreadable++
	case r.full:
		r.sums.add(o)
	}
	return r.add(show(o, meta, err))
}

// add adds an object to the page, and passes on a page that is full.
func (r *reading) add(o directory.Object) error {
	r.batch = append(r.batch, o)
	r.addresses += len(o.Values)
	r.text += len(o.DN) + len(o.Unreadable)
	for _, v := range o.Values {
		r.text += len(v.Attribute) + len(v.Raw)
	}
	if len(r.batch) < pageSize && r.addresses < pageAddresses && r.text < pageText {
		return nil
	}
	return r.flush()
}

// show converts an object into the form in which a controller returns it.
func show(o store.FeedObject, meta *jetstream.MsgMetadata, unreadable error) directory.Object {
	shown := directory.Object{GUID: directory.GUID(o.GUID), DN: o.DN, USN: meta.Sequence.Stream,
		Changed: meta.Timestamp}
	if unreadable != nil {
		shown.Unreadable = unreadable.Error()
		return shown
	}
	if o.Class != "" {
		shown.Classes = []string{strings.ToLower(o.Class)}
	}
	for _, a := range o.Addresses {
		shown.Values = append(shown.Values, directory.Value{Attribute: a.Attribute, Raw: a.Address.String(),
			InternalOnly: a.InternalOnly})
	}
	return shown
}

func (r *reading) flush() error {
	if len(r.batch) == 0 {
		return nil
	}
	batch := r.batch
	r.batch, r.addresses, r.text = nil, 0, 0
	return r.page(batch)
}

// isEnd reports whether at is the end of the stream. At the end of a full read, it verifies the digest.
func (r *reading) isEnd(ctx context.Context, at state) (bool, error) {
	_, now, err := r.s.look(ctx)
	switch {
	case err != nil:
		return false, err
	case !now.same(r.target) || at.Generation != now.state.Generation || now.last < at.Sequence:
		return false, unusable("the stream was replaced while it was read", nil)
	case now.last > at.Sequence:
		return false, nil
	}
	if r.full {
		if err := r.verify(at.Digest); err != nil {
			return false, err
		}
		r.s.client.setHub(r.s.dir, func(h *Hub) { h.Unreadable, h.TooLarge = r.unreadable, r.tooLarge })
	} else if r.unreadable+r.tooLarge > 0 {
		r.s.client.setHub(r.s.dir, func(h *Hub) {
			h.Unreadable, h.TooLarge = max(h.Unreadable, r.unreadable), max(h.TooLarge, r.tooLarge)
		})
	}
	r.s.setCut(at)
	return true, nil
}

// verify fails unless a full read returned the objects that the hub published. Missing objects are permitted if
// unreadable messages may account for them.
func (r *reading) verify(want store.Digest) error {
	got := r.sums.digest()
	if got == want {
		return nil
	}
	if n := uint64(r.unreadable + r.tooLarge); n > 0 && got.Objects <= want.Objects && got.Objects+n >= want.Objects {
		return nil
	}
	return unusable(fmt.Sprintf("the stream holds %d objects and %d addresses, which are not the %d and %d of the "+
		"hub; the hub compares and repairs it", got.Objects, got.Addresses, want.Objects, want.Addresses), nil)
}
