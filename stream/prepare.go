package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// tombstoneTTL is the retention of the message of an object without addresses. A follower reads everything
// again if its last read is more than 7 days ago.
const tombstoneTTL = 30 * 24 * time.Hour

// Limits of the stream of edge reports.
const (
	reportMax  = 8 << 10 // bytes of one report
	reportKeep = 30 * 24 * time.Hour
)

// maxConsumers limits the memory that edges can make the engine use. An edge needs two consumers per directory.
// Those of a lost connection stay for inactiveAfter.
const maxConsumers = 20_000

// replicas returns the numbers of replicas to try, in order.
func (p *Publisher) replicas() []int {
	if p.config.Replicas > 0 {
		return []int{p.config.Replicas}
	}
	return []int{3, 1}
}

// prepare ensures that the stream of the directory and the stream of edge reports exist.
func (p *Publisher) prepare(ctx context.Context, js jetstream.JetStream) error {
	dir := p.config.Directory
	err := p.ensure(ctx, js, jetstream.StreamConfig{Name: streamName(dir), Description: "addresses of " + dir,
		Subjects: []string{allObjects(dir), stateSubject(dir)}, Storage: jetstream.FileStorage,
		Compression: jetstream.S2Compression, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardOld,
		MaxMsgSize: maxPayload + 4096, AllowMsgTTL: true, MaxConsumers: maxConsumers,
		ConsumerLimits: jetstream.StreamConsumerLimits{InactiveThreshold: inactiveAfter}})
	if err != nil {
		return err
	}
	return p.ensure(ctx, js, jetstream.StreamConfig{Name: edgesStream, Description: "last reports of edges",
		Subjects: []string{edgesSubjects}, Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1,
		MaxMsgSize: reportMax, MaxAge: reportKeep, Discard: jetstream.DiscardOld})
}

// ensure creates a stream if it is missing. Otherwise it corrects settings that other parts rely on.
func (p *Publisher) ensure(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	asking, asked := context.WithTimeout(ctx, answerTimeout)
	s, err := js.Stream(asking, c.Name)
	asked()
	if err == nil {
		err = p.correct(ctx, js, s.CachedInfo().Config, c)
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return explain(err)
	}
	for _, c.Replicas = range p.replicas() {
		if _, err = js.CreateStream(ctx, c); err == nil || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			break
		}
	}
	if err == nil {
		p.config.Log.Info("stream created", "stream", c.Name, "replicas", c.Replicas)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil
	}
	return explain(err)
}

// correct applies the wanted settings to a stream, after another program changed them or after an upgrade. It
// loses no message. Limits of consumers are optional: the engine rejects them while a consumer of another
// program exceeds them, and older engines ignore them.
func (p *Publisher) correct(ctx context.Context, js jetstream.JetStream, found, want jetstream.StreamConfig) error {
	want.Replicas, want.Storage, want.Compression = found.Replicas, found.Storage, found.Compression
	want.Placement, want.Metadata = found.Placement, found.Metadata
	log := p.config.Log.With("stream", want.Name)
	var err error
	for _, leave := range []func(){
		func() {},
		func() { want.ConsumerLimits = found.ConsumerLimits },
		func() { want.MaxConsumers = found.MaxConsumers },
	} {
		if leave(); !retentionDiffers(found, want) {
			return nil
		}
		if _, err = js.UpdateStream(ctx, want); err == nil {
			log.Warn("settings of the stream differ from those of this version; correcting them")
			return nil
		}
		if api := new(jetstream.APIError); !errors.As(err, &api) {
			return err
		}
		log.Warn("the engine rejects settings of the stream", "error", err)
	}
	return err
}

// retentionDiffers reports whether a stream keeps or accepts other messages than it should.
func retentionDiffers(found, want jetstream.StreamConfig) bool {
	return found.MaxMsgsPerSubject != want.MaxMsgsPerSubject || found.MaxAge != want.MaxAge ||
		found.AllowMsgTTL != want.AllowMsgTTL || found.Retention != want.Retention ||
		!slices.Equal(found.Subjects, want.Subjects) || found.AllowDirect != want.AllowDirect || found.MaxMsgs > 0 ||
		found.MaxMsgSize != want.MaxMsgSize || max(found.MaxConsumers, 0) != max(want.MaxConsumers, 0) ||
		found.ConsumerLimits.InactiveThreshold != want.ConsumerLimits.InactiveThreshold
}
