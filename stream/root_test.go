package stream

import (
	"encoding/json"
	"testing"

	"rcpt-milter/store"
)

// TestRootNamesLastMessage: messages may follow the newest state, while a hub publishes a pass.
func TestRootNamesLastMessage(t *testing.T) {
	e, d := newEngine(t, nil), newDomain(t)
	d.fill(3)
	hub := newHub(t, "hub", d, e.client("hub")).start()
	eventually(t, "the hub has published", func() bool { return !hub.publisher.Status().Published.IsZero() })
	hub.stop()
	source, err := e.client("edge").Source("corp", SourceOptions{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	before, err := source.Root(t.Context())
	if err != nil || before.LastUSN != before.HighestCommittedUSN {
		t.Fatalf("last message %d, state %d, %v", before.LastUSN, before.HighestCommittedUSN, err)
	}
	message, err := json.Marshal(map[string]any{"v": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.admin().Publish(t.Context(), objectSubject("corp", store.GUID{1}), message); err != nil {
		t.Fatal(err)
	}
	after, err := source.Root(t.Context())
	if err != nil || after.HighestCommittedUSN != before.HighestCommittedUSN || after.LastUSN != before.LastUSN+1 {
		t.Errorf("last message %d, state %d, %v, before %d and %d", after.LastUSN, after.HighestCommittedUSN, err,
			before.LastUSN, before.HighestCommittedUSN)
	}
}
