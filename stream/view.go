package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
)

// view is the condition of a stream at one moment.
type view struct {
	created  time.Time     // of the stream
	last     uint64        // sequence of the last message
	messages uint64        // number of messages in the stream
	now      time.Time     // by the clock of the engine
	state    state         // the newest state, if found
	found    bool          // the stream has a state
	age      time.Duration // age of the hub's last good pass
}

// errNoStream reports that the engine has no stream for a directory.
var errNoStream = errors.New("the engine has no stream for this directory; check that a hub publishes it")

// look reads the newest state of a stream. The leader of the stream answers, so an answer is never older than a
// previous answer about the same stream.
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

// same reports whether two views are of the same generation of the same stream.
func (v view) same(o view) bool {
	return v.created.Equal(o.created) && v.state.Generation == o.state.Generation
}

// explain converts an error of the engine into an error of package directory.
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
