package stream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// ReadBelow does nothing: a stream has no containers.
func (s *Source) ReadBelow(context.Context, directory.GUID, func([]directory.Object) error) error {
	return nil
}

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

// ReadDeleted does nothing. A full read is verified against the digest of the hub, so tombstones would add no
// proof.
func (s *Source) ReadDeleted(context.Context, func([]directory.Object) error) error { return nil }

// Exists returns true: a stream has no bases to check.
func (s *Source) Exists(context.Context, string) (bool, error) { return true, nil }

// query asks the hub whether its directory has an address now.
type query struct {
	Address string `json:"address"`
}

// answer is the answer of a hub to a query.
type answer struct {
	Found        bool   `json:"found"`
	InternalOnly bool   `json:"internal_only,omitempty"`
	Error        string `json:"error,omitempty"` // set if the hub has no answer
}

// Find queries the hub for an object that owns an address. The returned object has no name and no GUID.
func (s *Source) Find(ctx context.Context, a address.Address) ([]directory.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	nc, _, err := s.client.js(ctx)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(query{a.String()})
	if err != nil {
		return nil, err
	}
	m, err := s.request(ctx, nc, data)
	if err != nil {
		return nil, explain(fmt.Errorf("cannot query the hub: %w", err))
	}
	var got answer
	if err := decode(m.Data, &got); err != nil {
		return nil, unusable("the answer of the hub cannot be read", err)
	}
	switch {
	case got.Error != "":
		return nil, &kindError{directory.ErrRefused, "the hub has no answer: " + quoted(got.Error), nil}
	case !got.Found:
		return nil, nil
	}
	return []directory.Object{{Values: []directory.Value{{Attribute: defaultAttribute, Raw: a.String(),
		InternalOnly: got.InternalOnly}}}}, nil
}

// request sends a query to the hub. The answer goes to a random subject of its own: from that of the library, a hub
// could guess where the messages of other directories arrive, and hubs may publish to all inboxes.
func (s *Source) request(ctx context.Context, nc *nats.Conn, data []byte) (*nats.Msg, error) {
	reply := inboxPrefix(s.client.config.Name) + ".query-" + rand.Text()
	sub, err := nc.SubscribeSync(reply)
	if err != nil {
		return nil, err
	}
	defer briefly(func() { _ = sub.Unsubscribe() })
	if err := nc.PublishRequest(findSubject(s.dir), reply, data); err != nil {
		return nil, err
	}
	m, err := sub.NextMsgWithContext(ctx)
	if err == nil && len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return nil, nats.ErrNoResponders
	}
	return m, err
}
