package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/store"
)

// headerRoom reserves space in each message for the headers that encode adds, not counting the name of the
// stream. An engine counts headers as part of the message.
const headerRoom = 256

// maxPending limits the messages that the engine has not yet confirmed.
const maxPending = 2000

// message is a message of a stream.
type message struct {
	subject string
	data    []byte
	ttl     time.Duration // 0 means no expiry
}

// objects publishes objects with their withheld addresses.
func (t *term) objects(ctx context.Context, list []store.FeedObject) error {
	messages := make([]message, len(list))
	for i, o := range list {
		var err error
		if messages[i], err = t.message(t.unite(o)); err != nil {
			return err
		}
	}
	t.sent = t.sent || len(messages) > 0
	return t.send(ctx, messages)
}

// message returns the message of an object.
func (t *term) message(o store.FeedObject) (message, error) {
	m := message{subject: objectSubject(t.p.config.Directory, o.GUID)}
	if len(o.Addresses) == 0 {
		m.ttl = tombstoneTTL
		o.Class, o.DN = "", ""
	}
	delete(t.tooLarge, o.GUID)
	var err error
	if m.data, err = encodeObject(t.p.config.Directory, o, t.p.config.Names, t.limit()); errors.Is(err, errTooLarge) {
		t.p.config.Log.Error("object does not fit in a message; edges keep what they have of it and defer unknown "+
			"recipients until it has fewer addresses", "error", err)
		if t.tooLarge == nil {
			t.tooLarge = map[store.GUID]bool{}
		}
		t.tooLarge[o.GUID] = true
		m.data, err = encodeTooLarge(t.p.config.Directory, o.GUID)
	}
	return m, err
}

// limit returns the largest message of an object that the engine accepts, in bytes without headers.
func (t *term) limit() int {
	limit := int64(maxPayload)
	if t.js != nil {
		limit = min(limit, t.js.Conn().MaxPayload())
	}
	return int(limit) - headerRoom - len(streamName(t.p.config.Directory))
}

// send publishes messages in order. Each message expects the one before it to be the last of the stream, so the
// engine rejects a hub that has lost its lease. When maxPending messages are unconfirmed, send waits for the
// oldest. The library would wait for any of them, and would ignore ctx.
func (t *term) send(ctx context.Context, messages []message) error {
	var futures []jetstream.PubAckFuture
	expected := t.last
	for _, m := range messages {
		if len(futures) == maxPending {
			if err := t.confirm(ctx, futures[0]); err != nil {
				return err
			}
			futures = futures[1:]
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		future, err := t.js.PublishMsgAsync(t.encode(m, expected))
		if err != nil {
			return explain(err)
		}
		futures = append(futures, future)
		expected++
	}
	for _, f := range futures {
		if err := t.confirm(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// confirm waits until the engine has stored a message at the expected sequence.
func (t *term) confirm(ctx context.Context, f jetstream.PubAckFuture) error {
	timer := time.NewTimer(defaultTimeout) // a new term would have to compare the whole stream
	defer timer.Stop()
	select {
	case ack := <-f.Ok():
		if ack.Sequence != t.last+1 {
			return unusable(fmt.Sprintf("the engine stored message %d as %d", t.last+1, ack.Sequence), nil)
		}
		t.last = ack.Sequence
		return nil
	case err := <-f.Err():
		return refused(err)
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return unreachable("the engine did not confirm a message in time", nil)
	}
}

// refused explains why the engine did not store a message.
func refused(err error) error {
	if isConflict(err) {
		return unusable("another program has published in this stream; it is compared again", err)
	}
	return explain(err)
}

// encode returns a message that expects a sequence to be the last of its stream.
func (t *term) encode(m message, expected uint64) *nats.Msg {
	out := nats.NewMsg(m.subject)
	out.Data = m.data
	out.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(expected, 10))
	out.Header.Set(jetstream.ExpectedStreamHeader, streamName(t.p.config.Directory))
	if m.ttl > 0 {
		out.Header.Set(jetstream.MsgTTLHeader, m.ttl.String())
	}
	return out
}
