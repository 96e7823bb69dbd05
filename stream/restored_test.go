package stream

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// publishLater publishes an object in a later payload version, as a hub of a later version would, and then a
// state.
func publishLater(t *testing.T, js jetstream.JetStream, a string) {
	t.Helper()
	guid := store.GUID{1, 2, 3, 4, 9}
	s, err := js.Stream(t.Context(), streamName("corp"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), stateSubject("corp"))
	if err != nil {
		t.Fatal(err)
	}
	at, err := decodeState("corp", m.Sequence, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	subject := objectSubject("corp", guid)
	ack, err := js.Publish(t.Context(), subject, []byte(`{"v":2,"subject":"`+subject+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	var d store.Digest
	d.Add(store.FeedObject{GUID: guid, Addresses: []store.FeedAddress{{Address: parse(t, a)}}})
	at.Digest.Merge(d)
	at.Mark, at.Sequence = "x", ack.Sequence+1
	data, err := at.encode("corp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), stateSubject("corp"), data); err != nil {
		t.Fatal(err)
	}
}

// holding returns a hub and an edge. If hold is set, the edge holds a removal.
func holding(t *testing.T, hold bool) *trio {
	t.Helper()
	w := &trio{t: t, engine: newEngine(t, nil), domain: newDomain(t)}
	w.domain.fill(20)
	gone := w.domain.add("gone", "gone@corp.example")
	w.hub = newHub(t, "hub", w.domain, w.engine.client("hub")).start()
	w.edge = newEdge(t, "edge", w.engine.client("edge"))
	w.edge.config.Limits.Canaries = func() []address.Address {
		return []address.Address{parse(t, "gone@corp.example")}
	}
	w.edge.start()
	equal(t, w.hub, w.edge)
	if hold {
		if err := w.domain.d.Delete(gone); err != nil {
			t.Fatal(err)
		}
		eventually(t, "edge holds", func() bool { return w.edge.mirror.Status().HoldReason != "" })
	}
	return w
}

// defers reports whether an edge does not reject unknown recipients.
func (w *trio) defers() bool {
	s, _ := w.edge.mirror.State()
	return s == mirror.Widening
}

// TestUnreadableObjectIsADifference checks that an edge with an unreadable object proves no address unknown.
// That must hold while removals are held, after a full pass, and after a restart without the engine.
func TestUnreadableObjectIsADifference(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprint("removals held ", hold), func(t *testing.T) {
			w := holding(t, hold)
			w.hub.stop()
			publishLater(t, w.engine.admin(), "new@corp.example")
			eventually(t, "edge defers", w.defers)
			if r := <-w.edge.mirror.Sync(true); r.Err != nil {
				t.Error(r.Err)
			}
			if !w.defers() {
				t.Error("a full pass ended it")
			}
			w.engine.stop()
			w.edge.stop()
			w.edge.start()
			if !w.defers() {
				t.Error("a restart ended it")
			}
		})
	}
}

// TestHubAndEngineRestored sets hub and engine back together, as restoring a snapshot of their host does. The
// edge is ahead of the stream until the stream has passed it, whether the edge notices or not. Then the edge
// must read everything, even while it holds a removal and digests cannot be compared.
func TestHubAndEngineRestored(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprint("removals held ", hold), func(t *testing.T) {
			w := holding(t, hold)
			w.hub.stop()
			w.engine.stop()
			old, oldHub := w.engine.backup(), t.TempDir()
			if err := os.CopyFS(oldHub, os.DirFS(w.hub.dir)); err != nil {
				t.Fatal(err)
			}
			w.engine.start()
			w.hub.start()
			ahead := w.edge.mirror.Status().USN + 4
			eventually(t, "edge is ahead", func() bool { return w.edge.mirror.Status().USN >= ahead })
			w.hub.stop()
			w.engine.stop()
			w.engine.restore(old)
			w.hub.dir = oldHub
			w.engine.start()
			w.hub.start()
			w.domain.add("after", "after@corp.example")
			// Without held removals, the digests differ, and a full pass follows within two minutes.
			eventually(t, "edge has the new address, or defers it", func() bool {
				return w.edge.has("after@corp.example") || !hold && w.defers()
			})
		})
	}
}

// TestBehindEdges checks that reports of edges reveal to a hub that its stream was set back.
func TestBehindEdges(t *testing.T) {
	at := term{generation: directory.GUID{1}, last: 10}
	other := directory.GUID{2}
	for _, tt := range []struct {
		name string
		edge EdgeReport
		want bool
	}{
		{"equal", EdgeReport{Generation: at.generation.String(), Sequence: 10}, false},
		{"ahead", EdgeReport{Generation: at.generation.String(), Sequence: 11}, true},
		{"ahead in another generation", EdgeReport{Generation: other.String(), Sequence: 11}, false},
		{"ahead long ago", EdgeReport{Generation: at.generation.String(), Sequence: 11, Age: time.Hour}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := at.isBehind([]EdgeReport{tt.edge}); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
}
