package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rcpt-milter/store"
)

// TestObjectIsTooLarge publishes an object that does not fit in a message, and then a smaller version of it.
func TestObjectIsTooLarge(t *testing.T) {
	large := store.FeedObject{GUID: store.GUID{1}}
	for i := range maxAddresses + 1 {
		large.Addresses = append(large.Addresses, store.FeedAddress{Attribute: "mail",
			Address: parse(t, fmt.Sprintf("a%d@x.example", i))})
	}
	small := store.FeedObject{GUID: large.GUID, Addresses: large.Addresses[:1]}
	current := &term{p: NewPublisher(PublisherConfig{Directory: "corp", Log: quiet()})}
	for _, tt := range []struct {
		name     string
		object   store.FeedObject
		tooLarge int
	}{{"too large", large, 1}, {"still too large", large, 1}, {"smaller", small, 0}, {"too large again", large, 1},
		{"gone", store.FeedObject{GUID: large.GUID}, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := current.message(tt.object)
			if err != nil {
				t.Fatal(err)
			}
			if len(current.tooLarge) != tt.tooLarge {
				t.Errorf("%d objects are too large, want %d", len(current.tooLarge), tt.tooLarge)
			}
			_, err = decodeObject("corp", large.GUID, m.data)
			if errors.Is(err, errPayload) != (tt.tooLarge > 0) {
				t.Errorf("read as error %v", err)
			}
		})
	}
}

// TestSendEndsWithContext publishes to an engine that confirms nothing. Publishing must end with its context,
// even when maxPending messages are unconfirmed.
func TestSendEndsWithContext(t *testing.T) {
	e := newEngine(t, nil)
	nc, js, err := e.client("hub").js(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	arrived := 0
	mute, err := nc.Subscribe(allObjects("corp"), func(*nats.Msg) { // no stream exists, and nothing is answered
		if arrived++; arrived == maxPending {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Unsubscribe()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	many := make([]message, 3*maxPending)
	for i := range many {
		many[i] = message{subject: objectSubject("corp", store.GUID{1, byte(i), byte(i >> 8)}), data: []byte("{}")}
	}
	at := &term{p: NewPublisher(PublisherConfig{Directory: "corp", Log: quiet()}), js: js}
	began := time.Now()
	if err := at.send(ctx, many); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > defaultTimeout/2 {
		t.Errorf("it took %v", took)
	}
}
