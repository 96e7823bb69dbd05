package stream

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// olderStream returns the settings that an older version gave to the stream of a directory.
func olderStream(dir string) jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: streamName(dir), Description: "addresses of " + dir,
		Subjects: []string{allObjects(dir), stateSubject(dir)}, Storage: jetstream.FileStorage,
		Compression: jetstream.S2Compression, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardOld,
		MaxMsgSize: maxPayload + 4096, AllowMsgTTL: true}
}

// TestOlderStreamGetsLimits gives a stream with content the settings of an older version. A hub that starts
// must update them without loss for the stream or an edge.
func TestOlderStreamGetsLimits(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		name := map[bool]string{false: "consumers of edges", true: "consumer of another program"}[foreign]
		t.Run(name, func(t *testing.T) {
			w := &trio{t: t, engine: newEngine(t, nil), domain: newDomain(t)}
			w.domain.fill(20)
			js := w.engine.admin()
			s, err := js.CreateStream(t.Context(), olderStream("corp"))
			if err != nil {
				t.Fatal(err)
			}
			if foreign { // lives longer than the limit permits, so the engine rejects the limit
				if _, err := s.CreateConsumer(t.Context(),
					jetstream.ConsumerConfig{InactiveThreshold: time.Hour}); err != nil {
					t.Fatal(err)
				}
			}
			w.hub = newHub(t, "hub", w.domain, w.engine.client("hub")).start()
			w.edge = newEdge(t, "edge", w.engine.client("edge")).start()
			equal(t, w.hub, w.edge)
			w.hub.stop()
			older := olderStream("corp")
			older.MaxMsgSize = 1 << 10
			if _, err := js.UpdateStream(t.Context(), older); err != nil {
				t.Fatal(err)
			}
			before, err := s.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			generation, full := w.edge.client.Hub("corp").Generation, w.edge.mirror.Status().Full.Number
			w.hub.start()
			w.still("later")
			after, err := s.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c := after.Config
			if c.MaxConsumers != maxConsumers || c.MaxMsgSize != maxPayload+4096 {
				t.Errorf("%d consumers, messages of %d bytes", c.MaxConsumers, c.MaxMsgSize)
			}
			if got := c.ConsumerLimits.InactiveThreshold; got != inactiveAfter && !foreign {
				t.Errorf("consumers may be inactive for %v", got)
			}
			if !after.Created.Equal(before.Created) || after.State.Msgs < before.State.Msgs {
				t.Errorf("stream of %v with %d messages became one of %v with %d", before.Created, before.State.Msgs,
					after.Created, after.State.Msgs)
			}
			if w.edge.client.Hub("corp").Generation != generation || w.edge.mirror.Status().Full.Number != full {
				t.Error("the edge had to read everything again")
			}
		})
	}
}
