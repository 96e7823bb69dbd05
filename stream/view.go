package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
)

// view is what a stream shows at one moment.
type view struct {
	created  time.Time     // of the stream
	last     uint64        // sequence of its last message
	messages uint64        // that it holds
	now      time.Time     // by the clock of the server
	state    state         // the newest
	found    bool          // there is a state
	age      time.Duration // of the last good pass of the hub
}

// errNoStream means that the engine has no stream for a directory.
var errNoStream = errors.New("the engine has no stream for this directory; check that a hub publishes it")

// look reads the newest state of a stream. The leader of the stream answers, so an answer is never
// older than an earlier one of the same stream.
func look(ctx context.Context, js jetstream.JetStream, dir string) (view, error) {
	s, err := js.Stream(ctx, streamName(dir))
	if err != nil {
		return view{}, explain(err)
	}
	info := s.CachedInfo()
	v := view{created: info.Created, last: info.State.LastSeq, messages: info.State.Msgs, now: info.TimeStamp}
	m, err := s.GetLastMsgForSubject(ctx, stateSubject(dir))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return v, nil
	}
	if err != nil {
		return v, explain(err)
	}
	if v.state, err = decodeState(dir, m.Sequence, m.Data); err != nil {
		return v, unusable("the state that the hub published cannot be read", err)
	}
	v.found = true
	v.last = max(v.last, m.Sequence)
	v.age = v.state.agedBy(v.now.Sub(m.Time))
	return v, nil
}

// same reports whether two views show one stream of one generation.
func (v view) same(o view) bool {
	return v.created.Equal(o.created) && v.state.Generation == o.state.Generation
}

// explain makes an error of the engine one of package directory.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return &kindError{directory.ErrRefused, errNoStream.Error(), err}
	case errors.Is(err, context.DeadlineExceeded):
		return &kindError{directory.ErrTimeout, "the engine did not answer in time", err}
	case errors.Is(err, context.Canceled):
		return err
	}
	return unreachable("the engine cannot be used", advise(err))
}
