package stream

import (
	"context"
	"encoding/json"
	"fmt"

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
	m, err := nc.RequestWithContext(ctx, findSubject(s.dir), data)
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
