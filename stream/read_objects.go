package stream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// ReadObjects passes the objects with these GUIDs to page. It omits objects that the stream does not have.
func (s *Source) ReadObjects(ctx context.Context, guids []directory.GUID, page func([]directory.Object) error) error {
	at, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	ctx, end := at.within(ctx)
	defer end()
	all, err := s.objects(ctx, at.js, guids)
	if err != nil || len(all) == 0 {
		return whyEnded(ctx, err)
	}
	return page(all)
}

// objects returns the objects with these GUIDs that the stream has.
func (s *Source) objects(
	ctx context.Context, js jetstream.JetStream, guids []directory.GUID,
) ([]directory.Object, error) {
	stream, err := js.Stream(ctx, streamName(s.dir))
	if err != nil {
		return nil, explain(err)
	}
	var all []directory.Object
	for _, guid := range guids {
		m, err := stream.GetLastMsgForSubject(ctx, objectSubject(s.dir, store.GUID(guid)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		} else if err != nil {
			return nil, explain(err)
		}
		o, err := decodeObject(s.dir, store.GUID(guid), m.Data)
		meta := &jetstream.MsgMetadata{Timestamp: m.Time}
		meta.Sequence.Stream = m.Sequence
		all = append(all, show(o, meta, err))
	}
	return all, nil
}

// List passes all objects of the stream to page.
func (s *Source) List(ctx context.Context, page func([]directory.Object) error) error {
	return s.Read(ctx, 0, page)
}

// ReadBelow does nothing: a stream has no containers.
func (s *Source) ReadBelow(context.Context, directory.GUID, func([]directory.Object) error) error {
	return nil
}

// ReadDeleted does nothing. A full read is verified against the digest of the hub, so tombstones would add no
// proof.
func (s *Source) ReadDeleted(context.Context, func([]directory.Object) error) error { return nil }

// Exists returns true: a stream has no bases to check.
func (s *Source) Exists(context.Context, string) (bool, error) { return true, nil }
