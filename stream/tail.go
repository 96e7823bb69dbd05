package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Limits of the messages that wait in the client of one consumer.
const (
	pullMessages  = 2000
	pullBytes     = 8 << 20
	pullHeartbeat = 2 * time.Second // a consumer that is silent for twice this time is gone
	inactiveAfter = 5 * time.Minute
)

// errGap reports the loss of a message between the engine and the client.
var errGap = errors.New("messages were lost on the way from the engine")

// tail reads a stream from a given sequence and stays open. It delivers each message once and in order, or
// fails.
type tail struct {
	js       jetstream.JetStream
	stream   string
	name     string
	created  time.Time // creation time of the stream
	messages jetstream.MessagesContext
	received uint64    // number of messages received from the consumer
	session  session   // session in which a kept tail was opened
	keptAt   time.Time // when the tail was last kept for another read
	position uint64    // sequence up to which all messages were delivered
}

// openTail opens a tail that starts after a sequence. An empty filter selects all subjects.
func openTail(ctx context.Context, js jetstream.JetStream, stream, filter string, after uint64) (*tail, error) {
	return openConsumer(ctx, js, stream, jetstream.ConsumerConfig{FilterSubject: filter,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1}, after)
}

// openLast opens a tail that starts with the last message of a subject.
func openLast(ctx context.Context, js jetstream.JetStream, stream, subject string) (*tail, error) {
	return openConsumer(ctx, js, stream, jetstream.ConsumerConfig{FilterSubject: subject,
		DeliverPolicy: jetstream.DeliverLastPolicy}, 0)
}

func openConsumer(
	ctx context.Context, js jetstream.JetStream, stream string, c jetstream.ConsumerConfig, after uint64,
) (*tail, error) {
	c.AckPolicy, c.MemoryStorage, c.Replicas = jetstream.AckNonePolicy, true, 1
	c.InactiveThreshold = inactiveAfter
	consumer, err := js.CreateConsumer(ctx, stream, c)
	if err != nil {
		return nil, explain(err)
	}
	t := &tail{js: js, stream: stream, name: consumer.CachedInfo().Name, position: after}
	t.messages, err = consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.PullHeartbeat(pullHeartbeat), jetstream.PullExpiry(30*time.Second))
	if err != nil {
		t.close()
		return nil, explain(err)
	}
	return t, nil
}

// next waits for the next message.
func (t *tail) next(ctx context.Context) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	m, err := t.messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, nil, explain(err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil, nil, unusable("the engine sent a message without its place", err)
	}
	t.received++
	if meta.Sequence.Consumer != t.received || meta.Sequence.Stream <= t.position {
		return nil, nil, unreachable("reading starts again", errGap)
	}
	t.position = meta.Sequence.Stream
	return m, meta, nil
}

// close stops reading and deletes the consumer. If that fails, the engine deletes the consumer after some time.
func (t *tail) close() {
	if t == nil {
		return
	}
	briefly(func() {
		if t.messages != nil {
			t.messages.Stop()
		}
		if t.js.Conn().IsConnected() {
			_ = t.js.Conn().Publish(fmt.Sprintf("$JS.API.CONSUMER.DELETE.%s.%s", t.stream, t.name), nil)
		}
	})
}

// quoted formats foreign text as one short line.
func quoted(text string) string { return strconv.QuoteToASCII(text[:min(len(text), 100)]) }
