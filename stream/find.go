package stream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"rcpt-milter/address"
	"rcpt-milter/directory"
)

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
	reply := inboxPrefix(s.client.Name()) + ".query-" + rand.Text()
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
