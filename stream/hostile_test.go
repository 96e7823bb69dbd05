package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// hostile is an enrolled edge that tricks the engine into writing to subjects that the edge itself may not use.
// The engine checks neither the subject of an answer nor that of a delivery.
type hostile struct {
	*guarded
	nc        *nats.Conn
	admin     jetstream.JetStream
	directory string
}

func newHostile(t *testing.T, g *guarded) *hostile {
	t.Helper()
	nc, _, err := g.client("edge").js(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &hostile{g, nc, g.admin(), "corp"}
}

// do makes the engine deliver everything that the edge may read to a subject, in one of hostileWays.
func (h *hostile) do(way, to string) {
	h.t.Helper()
	name := streamName(h.directory)
	consumer := func(config map[string]any) {
		data, _ := json.Marshal(map[string]any{"stream_name": name, "config": config})
		if _, err := h.nc.Request("$JS.API.CONSUMER.CREATE."+name, data, 5*time.Second); err != nil {
			h.t.Fatal(err)
		}
	}
	var err error
	switch way {
	case "get":
		err = h.nc.PublishRequest("$JS.API.STREAM.MSG.GET."+name, to, []byte(`{"seq":1}`))
	case "direct get":
		err = h.nc.PublishRequest("$JS.API.DIRECT.GET."+name, to, []byte(`{"seq":1}`))
	case "information":
		err = h.nc.PublishRequest("$JS.API.STREAM.INFO."+name, to, nil)
	case "report":
		err = h.nc.PublishRequest(edgeSubject("corp", "edge"), to, []byte(`{"name":"edge"}`))
	case "question":
		err = h.nc.PublishRequest(findSubject("corp"), to, []byte(`{"address":"p1@corp.example"}`))
	case "push":
		consumer(map[string]any{"deliver_subject": to, "deliver_policy": "all", "ack_policy": "none"})
	case "push headers":
		consumer(map[string]any{"deliver_subject": to, "deliver_policy": "all", "ack_policy": "none",
			"headers_only": true})
	case "empty answer":
		pull := "empty" // no object has this subject
		consumer(map[string]any{"name": pull, "deliver_policy": "new", "ack_policy": "none",
			"filter_subject": objectSubject(h.directory, store.GUID{0xff})})
		err = h.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+name+"."+pull, to, []byte(`{"batch":1,"no_wait":true}`))
	case "pull":
		pull := strings.Map(func(r rune) rune {
			if r == '.' || r == '$' {
				return '_'
			}
			return r
		}, "x"+to)
		consumer(map[string]any{"name": pull, "deliver_policy": "all", "ack_policy": "explicit"})
		err = h.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+name+"."+pull, to, []byte(`{"batch":50,"no_wait":true}`))
	}
	if err == nil {
		err = h.nc.Flush()
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

var hostileWays = []string{"get", "direct get", "information", "report", "question", "push", "push headers", "pull"}

// planted returns the messages of a stream that no hub has published.
func (h *hostile) planted(stream string) (all []*jetstream.RawStreamMsg) {
	h.t.Helper()
	s, err := h.admin.Stream(h.t.Context(), stream)
	if err != nil {
		h.t.Fatal(err)
	}
	info, err := s.Info(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(h.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		} else if err != nil {
			h.t.Fatal(err)
		}
		if m.Header.Get(jetstream.ExpectedStreamHeader) != stream {
			all = append(all, m)
		}
	}
	return all
}

// TestEdgeMakesEngineWrite makes the engine write to the subjects of objects and states, and to another
// directory. Some writes succeed, so messages must prove where they belong.
func TestEdgeMakesEngineWrite(t *testing.T) {
	g, d := newGuarded(t), newDomain(t)
	g.enrol("hub", HubRole, "corp", "other")
	g.restart()
	d.fill(20)
	w := &trio{t: t, engine: g.e, domain: d}
	w.hub = newHub(t, "hub", d, g.client("hub"), func(c *PublisherConfig) {
		c.Lag = time.Millisecond
		c.Find = func(context.Context, address.Address) (bool, bool, error) { return true, false, nil }
	}).start()
	w.edge = newEdge(t, "edge", g.client("edge")).start()
	equal(t, w.hub, w.edge)
	h := newHostile(t, g)
	_, err := h.admin.CreateStream(t.Context(), jetstream.StreamConfig{Name: streamName("other"), MaxMsgsPerSubject: 1,
		Subjects: []string{allObjects("other"), stateSubject("other")}, AllowMsgTTL: true})
	if err != nil {
		t.Fatal(err)
	}
	victim := store.GUID(d.add("victim", "victim@corp.example"))
	eventually(t, "edge has it", func() bool { return w.edge.has("victim@corp.example") })
	w.hub.stop()
	for _, dir := range []string{"corp", "other"} {
		for _, to := range []string{objectSubject(dir, victim), objectSubject(dir, store.GUID{1}), stateSubject(dir)} {
			for _, way := range hostileWays {
				if way == "push" && dir == "corp" {
					continue // the engine rejects it
				}
				h.do(way, to)
			}
		}
	}
	eventually(t, "the engine wrote", func() bool {
		return len(h.planted(streamName("corp"))) >= 3 && len(h.planted(streamName("other"))) >= 3
	})
	for _, dir := range []string{"corp", "other"} {
		for _, m := range h.planted(streamName(dir)) {
			guid, isObject := guidOf(dir, m.Subject)
			if !isObject {
				guid = store.GUID{1}
			}
			if _, err := decodeObject(dir, guid, m.Data); !errors.Is(err, errPayload) {
				t.Errorf("%s: %.200s is accepted as an object: %v", m.Subject, m.Data, err)
			}
			if _, err := decodeState(dir, m.Sequence, m.Data); !errors.Is(err, errPayload) {
				t.Errorf("%s: %.200s is accepted as a state: %v", m.Subject, m.Data, err)
			}
		}
	}
	<-w.edge.mirror.Sync(false)
	<-w.edge.mirror.Sync(true)
	w.keeps()
	if !w.edge.has("victim@corp.example") || w.edge.has("nobody@corp.example") {
		t.Error("the answers of the edge have changed")
	}
	w.hub.start()
	w.still("repaired")
	if list := h.planted(streamName("corp")); len(list) > 0 {
		t.Errorf("%d messages are left after the repair, as %.100s", len(list), list[0].Data)
	}
}

// TestHubForgesNothing lets the hub of another directory store valid messages of a directory among its own, and makes
// the engine deliver them to the subjects of that directory. The engine stores them under their own subjects, if at
// all, so nothing is read as a message of that directory.
func TestHubForgesNothing(t *testing.T) {
	g := newGuarded(t)
	g.enrol("mal", HubRole, "lab")
	g.restart()
	admin := g.admin()
	if err := (Streams{JS: admin, Log: quiet()}).Ensure(t.Context(), "corp", "lab"); err != nil {
		t.Fatal(err)
	}
	object, err := encodeObject("corp", store.FeedObject{GUID: store.GUID{1}, Class: "user", Addresses: []store.FeedAddress{
		{Attribute: "mail", Address: parse(t, "forged@corp.example")}}}, false, maxPayload)
	if err != nil {
		t.Fatal(err)
	}
	held, err := json.Marshal(holder{leaseSubject("corp"), "mal", "id"})
	if err != nil {
		t.Fatal(err)
	}
	nc, js, err := g.client("mal").js(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for subject, data := range map[string][]byte{objectSubject("lab", store.GUID{1}): object,
		objectSubject("lab", store.GUID{2}): held, stateSubject("lab"): held, leaseSubject("lab"): held} {
		if _, err := js.Publish(t.Context(), subject, data); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	arrived := map[string]int{} // messages of the engine, by the subject to which it delivers
	h := &hostile{guarded: g, nc: nc, admin: admin, directory: "lab"}
	for _, to := range []string{objectSubject("corp", store.GUID{1}), leaseSubject("corp"),
		leaseSubject("corp") + waitSuffix} {
		_, err := admin.Conn().Subscribe(to, func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			arrived[to]++
			if guid, ok := guidOf("corp", m.Subject); ok {
				if _, err := decodeObject("corp", guid, m.Data); err == nil {
					t.Errorf("forged %s: %.200s", m.Subject, m.Data)
				}
			} else if _, ok := holderOf("corp", m.Data); ok && strings.HasPrefix(m.Subject, leaseSubject("corp")) {
				t.Errorf("forged %s: %.200s", m.Subject, m.Data)
			}
		})
		if err == nil {
			err = admin.Conn().Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		// The last ones are denied.
		for subject, data := range map[string]string{
			"$JS.API.STREAM.MSG.GET." + leaseStream:                         fmt.Sprintf(`{"last_by_subj":%q}`, leaseSubject("lab")),
			"$JS.API.DIRECT.GET." + leaseStream + "." + leaseSubject("lab"): "",
			"$JS.API.DIRECT.GET." + streamName("lab"):                       fmt.Sprintf(`{"last_by_subj":%q}`, objectSubject("lab", store.GUID{1})),
		} {
			if err := nc.PublishRequest(subject, to, []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
		for _, way := range []string{"get", "direct get", "information", "push", "push headers", "pull"} {
			h.do(way, to)
		}
		eventually(t, "the engine wrote", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return arrived[to] >= 3+3*3 // answers, and the messages of three consumers
		})
	}
}

// TestEdgeMakesEngineDelete makes the engine purge and delete streams. A purge is denied. After a deletion, the
// engine creates the stream again; the edge keeps its index, and has later changes.
func TestEdgeMakesEngineDelete(t *testing.T) {
	g, d := newGuarded(t), newDomain(t)
	d.fill(20)
	w := &trio{t: t, engine: g.e, domain: d}
	w.hub = newHub(t, "hub", d, g.client("hub")).start()
	w.edge = newEdge(t, "edge", g.client("edge")).start()
	equal(t, w.hub, w.edge)
	h := newHostile(t, g)
	for _, name := range []string{streamName("corp"), edgesStream, leaseStream} {
		s, err := h.admin.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		before, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.do("empty answer", "$JS.API.STREAM.PURGE."+name)
		h.do("empty answer", "$JS.API.STREAM.MSG.DELETE."+name)
		after, err := s.Info(t.Context()) // the engine processes requests in order
		if err != nil || after.State.Msgs < before.State.Msgs {
			t.Errorf("%s had %+v, has %+v, %v", name, before.State, after.State, err)
		}
		if t.Failed() {
			continue
		}
		h.do("empty answer", "$JS.API.STREAM.DELETE."+name)
		eventually(t, name+" is gone", func() bool {
			_, err := h.admin.Stream(t.Context(), name)
			return errors.Is(err, jetstream.ErrStreamNotFound)
		})
		w.keeps()
		streams := Streams{JS: h.admin, LeaseTTL: 2 * time.Second, Log: quiet()} // as the engine does
		if err := streams.Ensure(t.Context(), "corp"); err != nil {
			t.Fatal(err)
		}
		w.still("after-" + name)
	}
}

// TestEdgeMakesEngineWriteTheLease writes to the subject of the lease. That must neither take the lease from a
// hub nor keep a hub from taking it.
func TestEdgeMakesEngineWriteTheLease(t *testing.T) {
	g, d := newGuarded(t), newDomain(t)
	d.fill(3)
	hub := newHub(t, "hub", d, g.client("hub"), func(c *PublisherConfig) {
		c.LeaseTTL = time.Minute // a test that waits for expiry fails
		c.Find = func(context.Context, address.Address) (bool, bool, error) { return true, false, nil }
	}).start()
	eventually(t, "hub publishes", func() bool { return hub.publisher.Status().Sequence > 0 })
	h := newHostile(t, g)
	lease, err := h.admin.KeyValue(t.Context(), leaseBucket)
	if err != nil {
		t.Fatal(err)
	}
	hub.stop()
	for i := range 2 {
		t.Run(fmt.Sprint("time ", i), func(t *testing.T) {
			h.do("get", leaseSubject("corp"))
			eventually(t, "the engine wrote", func() bool {
				entry, err := lease.Get(t.Context(), token("corp"))
				return err == nil && bytes.Contains(entry.Value(), []byte("stream_msg_get_response"))
			})
			hub.start()
			eventually(t, "hub publishes", func() bool { return hub.publisher.Status().Leading })
			hub.stop()
		})
	}
}

// TestLeaseIsHeldAgainstOthersValues renews a lease over values that are not leases, but not over the lease of
// another hub.
func TestLeaseIsHeldAgainstOthersValues(t *testing.T) {
	other, _ := json.Marshal(holder{leaseSubject("corp"), "other", "id"})
	elsewhere, _ := json.Marshal(holder{leaseSubject("lab"), "other", "id"})
	for _, tt := range []struct {
		name, value string
		lost        bool
	}{
		{"answer of the engine", `{"type":"io.nats.jetstream.api.v1.stream_msg_get_response"}`, false},
		{"answer of a hub", `{"found":true}`, false},
		{"nothing", "", false},
		{"garbage", "\xff", false},
		{"lease of another directory", string(elsewhere), false},
		{"lease of another hub", string(other), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, nil)
			js := e.admin()
			s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			p := NewPublisher(PublisherConfig{Client: e.client("hub"), Store: s, Directory: "corp",
				LeaseTTL: 200 * time.Millisecond, State: func() SourceState { return SourceState{} }, Log: quiet()})
			if err := p.prepare(t.Context(), js); err != nil {
				t.Fatal(err)
			}
			l, err := p.acquire(t.Context(), js)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- l.keep(ctx) }()
			if _, err := l.kv.Put(t.Context(), l.key, []byte(tt.value)); err != nil {
				t.Fatal(err)
			}
			if !tt.lost {
				eventually(t, "the lease is written again", func() bool {
					entry, err := l.kv.Get(t.Context(), l.key)
					return err == nil && bytes.Equal(entry.Value(), l.value)
				})
				cancel()
			}
			if err := <-ended; errors.Is(err, errLeaseLost) != tt.lost {
				t.Errorf("error %v", err)
			}
			cancel()
		})
	}
}
