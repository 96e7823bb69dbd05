package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// trio is a hub with a domain, an engine and an edge.
type trio struct {
	t         *testing.T
	engine    *engine
	domain    *domain
	hub, edge *node
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	w := &trio{t: t, engine: newEngine(t, nil), domain: newDomain(t)}
	w.domain.fill(20)
	w.hub = newHub(t, "hub", w.domain, w.engine.client("hub")).start()
	w.edge = newEdge(t, "edge", w.engine.client("edge")).start()
	equal(t, w.hub, w.edge)
	return w
}

// keeps fails if the edge has forgotten an address of the domain's people.
func (w *trio) keeps() {
	w.t.Helper()
	for i := range 20 {
		if a := fmt.Sprintf("p%d@corp.example", i); !w.edge.has(a) {
			w.t.Fatalf("the edge forgot %s", a)
		}
	}
}

// still verifies that changes still arrive, and that the edge has lost nothing.
func (w *trio) still(name string) {
	w.t.Helper()
	w.domain.add(name, name+"@corp.example")
	eventually(w.t, "edge has "+name, func() bool { w.keeps(); return w.edge.has(name + "@corp.example") })
	equal(w.t, w.hub, w.edge)
}

func TestEngineIsDownAtFirst(t *testing.T) {
	e, d := newEngine(t, nil), newDomain(t)
	d.fill(20)
	e.stop()
	w := &trio{t: t, engine: e, domain: d}
	w.hub = newHub(t, "hub", d, e.client("hub")).start()
	w.edge = newEdge(t, "edge", e.client("edge")).start()
	eventually(t, "edge and hub say so", func() bool {
		return w.edge.mirror.Status().LastError != nil && w.hub.publisher.Status().LastError != nil
	})
	if err := w.edge.mirror.Status().LastError.Error(); !strings.Contains(err, "engine") {
		t.Errorf("error %q does not name the engine", err)
	}
	if s, _ := w.edge.mirror.State(); s != mirror.NotReady {
		t.Errorf("state %v", s)
	}
	e.start()
	equal(t, w.hub, w.edge)
	w.still("first")
	e.stop()
	eventually(t, "edge says so", func() bool { return w.edge.mirror.Status().LastError != nil })
	d.add("meanwhile", "meanwhile@corp.example")
	w.keeps()
	e.start()
	eventually(t, "change arrives", func() bool { return w.edge.has("meanwhile@corp.example") })
	w.still("second")
}

func TestStreamIsDeleted(t *testing.T) {
	w := newTrio(t)
	before := w.edge.client.Hub("corp").Generation
	if err := w.engine.admin().DeleteStream(t.Context(), streamName("corp")); err != nil {
		t.Fatal(err)
	}
	w.still("new")
	if after := w.edge.client.Hub("corp").Generation; after == before {
		t.Error("the new stream has the old generation")
	}
}

// empty deletes the messages of the stream whose subjects begin with prefix. The stream permits no purge.
func (w *trio) empty(prefix string) {
	w.t.Helper()
	s, err := w.engine.admin().Stream(w.t.Context(), streamName("corp"))
	if err != nil {
		w.t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(w.t.Context(), seq)
		if err == nil && strings.HasPrefix(m.Subject, prefix) {
			err = s.DeleteMsg(w.t.Context(), seq)
		}
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			w.t.Fatal(err)
		}
	}
}

func TestStreamIsPurged(t *testing.T) {
	for _, subject := range []string{"", objectToken} {
		t.Run("subject "+subject, func(t *testing.T) {
			w := newTrio(t)
			w.empty("rcpt.corp" + subject)
			<-w.edge.mirror.Sync(true) // reads an incomplete stream, or a repaired one
			w.keeps()
			w.still("new")
			if r := <-w.edge.mirror.Sync(true); r.Err != nil {
				t.Error(r.Err)
			}
			w.keeps()
		})
	}
}

// TestEngineIsRestored restores an old backup of the engine while the hub is down. The stream then lacks what
// the hub published later, and the hub cannot repair it.
func TestEngineIsRestored(t *testing.T) {
	w := newTrio(t)
	w.engine.stop()
	old := w.engine.backup()
	w.engine.start()
	for i := range 5 {
		w.still(fmt.Sprintf("later%d", i))
	}
	w.hub.stop()
	w.engine.stop()
	w.engine.restore(old)
	w.engine.start()
	eventually(t, "edge notices", func() bool {
		err := w.edge.mirror.Status().LastError
		return err != nil && strings.Contains(err.Error(), "set back")
	})
	for i := range 5 {
		if a := fmt.Sprintf("later%d@corp.example", i); !w.edge.has(a) {
			t.Errorf("the edge forgot %s", a)
		}
	}
	w.hub.start()
	eventually(t, "hub repairs", func() bool { return w.edge.mirror.Status().LastError == nil })
	w.still("last")
	if !w.edge.has("later4@corp.example") {
		t.Error("the edge forgot an address")
	}
}

func TestHubIsReinstalled(t *testing.T) {
	w := newTrio(t)
	w.hub.stop()
	w.hub.dir = t.TempDir()
	w.hub.start()
	w.still("new")
}

// TestHubShowsNothing reinstalls a hub with an account that sees only one person. The guard of the edge holds
// the removals.
func TestHubShowsNothing(t *testing.T) {
	w := newTrio(t)
	w.hub.stop()
	other := newDomain(t)
	other.add("one", "one@corp.example")
	hub := newHub(t, "hub", other, w.engine.client("hub"), func(c *PublisherConfig) { c.Lag = time.Millisecond })
	hub.start()
	eventually(t, "edge holds", func() bool { return w.edge.mirror.Status().HoldReason != "" })
	w.keeps()
}

func TestHubIsRestored(t *testing.T) {
	w := newTrio(t)
	w.hub.stop()
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(w.hub.dir)); err != nil {
		t.Fatal(err)
	}
	w.hub.start()
	w.still("later")
	w.hub.stop()
	w.hub.dir = old
	w.hub.start()
	eventually(t, "hub publishes", func() bool { return w.hub.publisher.Status().Leading })
	w.still("last")
	if !w.edge.has("later@corp.example") {
		t.Error("the edge forgot an address")
	}
}

// TestTombstonesAreGone keeps an edge down until all tombstones have expired.
func TestTombstonesAreGone(t *testing.T) {
	w := newTrio(t)
	gone := w.domain.add("gone", "gone@corp.example")
	eventually(t, "edge has it", func() bool { return w.edge.has("gone@corp.example") })
	w.edge.stop()
	if err := w.domain.d.Delete(gone); err != nil {
		t.Fatal(err)
	}
	s, err := w.engine.admin().Stream(t.Context(), streamName("corp"))
	if err != nil {
		t.Fatal(err)
	}
	subject := objectSubject("corp", store.GUID(gone))
	eventually(t, "tombstone with a TTL", func() bool {
		m, err := s.GetLastMsgForSubject(t.Context(), subject)
		return err == nil && m.Header.Get(jetstream.MsgTTLHeader) == "720h0m0s"
	})
	w.empty(subject)
	w.edge.offset.Store(int64(31 * 24 * time.Hour))
	w.edge.start()
	eventually(t, "edge forgets it", func() bool { return !w.edge.has("gone@corp.example") })
	w.keeps()
	equal(t, w.hub, w.edge)
}

// TestTwoHubs runs two hubs at two controllers, one of which lags. What the other hub published stays in the
// stream, and a hub that has lost its lease cannot publish.
func TestTwoHubs(t *testing.T) {
	w := newTrio(t)
	lagging := w.domain.d.NewReplica("dc2", 50000)
	lagging.ReplicateFrom(w.domain.d, 0)
	second := &domain{t: t, d: lagging, server: adsim.StartTest(t, lagging, adsim.ServerConfig{})}
	other := newHub(t, "other", second, w.engine.client("other")).start()
	eventually(t, "other hub stands by", func() bool { return other.publisher.Status().Holder == "hub" })
	w.domain.add("fresh", "fresh@corp.example") // not replicated to the other controller
	eventually(t, "edge has it", func() bool { return w.edge.has("fresh@corp.example") })
	generation := w.edge.client.Hub("corp").Generation
	w.hub.stop()
	eventually(t, "other hub publishes", func() bool {
		s := other.publisher.Status()
		return s.Leading && !s.Published.IsZero() && w.edge.client.Hub("corp").Name == "other"
	})
	if !w.edge.has("fresh@corp.example") {
		t.Error("the takeover removed what the other controller does not have yet")
	}
	if s := other.publisher.Status(); s.Withheld != 1 {
		t.Errorf("%d objects withheld", s.Withheld)
	}
	if g := w.edge.client.Hub("corp").Generation; g != generation {
		t.Error("a hub that watched the stream began another generation")
	}
	second.add("second", "second@corp.example")
	eventually(t, "change arrives", func() bool { return w.edge.has("second@corp.example") })
	lagging.ReplicateFrom(w.domain.d, 0)
	eventually(t, "nothing is withheld", func() bool { return other.publisher.Status().Withheld == 0 })
	equal(t, other, w.edge)
	w.keeps()
}

// TestOldHubIsFenced publishes a message that expects an outdated sequence.
func TestOldHubIsFenced(t *testing.T) {
	w := newTrio(t)
	_, js, err := w.hub.client.js(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := &term{p: w.hub.publisher, js: js, last: 1}
	err = old.send(t.Context(), []message{{subject: objectSubject("corp", store.GUID{1}), data: []byte(`{"v":1}`)}})
	if err == nil || !strings.Contains(err.Error(), "another program has published") {
		t.Fatalf("error %v", err)
	}
}

// TestHostilePayloads writes messages to the stream that no hub writes.
func TestHostilePayloads(t *testing.T) {
	w := newTrio(t)
	w.hub.stop()
	js := w.engine.admin()
	victim := ""
	all, err := js.Stream(t.Context(), streamName("corp"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := all.Info(t.Context(), jetstream.WithSubjectFilter("rcpt.corp.o.*"))
	if err != nil {
		t.Fatal(err)
	}
	for victim = range info.State.Subjects {
		break
	}
	for name, data := range map[string]string{
		"garbage": "\x00\xff", "no JSON": "{", "later version": `{"v":9}`, "other type": `{"v":"1"}`,
		"control": `{"v":1,"class":"\u001b[2J"}`, "deep": strings.Repeat("[", 100_000),
		"other object":    `{"v":1,"subject":"` + objectSubject("corp", store.GUID{1}) + `"}`,
		"other directory": `{"v":1,"subject":"` + strings.Replace(victim, "corp", "lab", 1) + `"}`,
		"twice": `{"v":1,"subject":"` + victim + `","addresses":{"mail":[` + strings.Repeat(`"a@x.example",`, 20_000) +
			`"b@x.example"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := js.Publish(t.Context(), victim, []byte(data)); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "rcpt.corp.o.xyz", []byte(data)); err != nil {
				t.Fatal(err)
			}
			republishState(t, js)
			if r := <-w.edge.mirror.Sync(false); r.Err != nil {
				t.Error(r.Err)
			}
			w.keeps()
			<-w.edge.mirror.Sync(true)
			w.keeps()
		})
	}
	if list := strings.Join(w.edge.mirror.Status().Warnings, "\n"); !strings.Contains(list, "cannot be read") {
		t.Errorf("warnings: %s", list)
	}
	w.hub.start()
	w.still("repaired")
}

// republishState publishes the newest state again, after later messages.
func republishState(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	republish(t, js, func(*state) {})
}

// republish publishes a modified copy of the newest state.
func republish(t *testing.T, js jetstream.JetStream, change func(*state)) {
	t.Helper()
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
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at.Sequence = info.State.LastSeq + 1
	change(&at)
	data, err := at.encode("corp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), stateSubject("corp"), data); err != nil {
		t.Fatal(err)
	}
}

// TestTombstonesForAll publishes tombstones for all objects. The guard of the edge holds the removals.
func TestTombstonesForAll(t *testing.T) {
	w := newTrio(t)
	w.hub.stop()
	js := w.engine.admin()
	s, err := js.Stream(t.Context(), streamName("corp"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter("rcpt.corp.o.*"))
	if err != nil {
		t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		if _, err := js.Publish(t.Context(), subject, []byte(`{"v":1,"subject":"`+subject+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	republishState(t, js)
	eventually(t, "edge holds", func() bool { return w.edge.mirror.Status().HoldReason != "" })
	w.keeps()
	w.hub.start()
	w.still("repaired")
	eventually(t, "nothing is held", func() bool { return w.edge.mirror.Status().HoldReason == "" })
}

// TestLaterStates publishes states of a later version, and then one of this version again.
func TestLaterStates(t *testing.T) {
	w := newTrio(t)
	w.hub.stop()
	js := w.engine.admin()
	if _, err := js.Publish(t.Context(), stateSubject("corp"), []byte(`{"v":2}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "edge says so", func() bool {
		err := w.edge.mirror.Status().LastError
		return err != nil && strings.Contains(err.Error(), "upgrade rcpt-milter")
	})
	w.keeps()
	w.hub.start()
	w.still("new")
}

// TestHubStopsWithinAPass publishes an address and a removal without a state. They have no effect before the
// next state. Messages that are not from the hub never have an effect.
func TestHubStopsWithinAPass(t *testing.T) {
	w := newTrio(t)
	gone := w.domain.add("gone", "gone@corp.example")
	eventually(t, "edge has it", func() bool { return w.edge.has("gone@corp.example") })
	equal(t, w.hub, w.edge)
	w.hub.stop()
	// A state that the edge has not read yet could not end a pass once there are messages after it.
	eventually(t, "the edge has read the last state", func() bool { return (<-w.edge.mirror.Sync(false)).Err == nil })
	js, before := w.engine.admin(), w.edge.digest()
	for guid, data := range map[store.GUID]string{
		store.GUID(gone): `{"v":1}`,
		{9}:              `{"v":1,"addresses":{"mail":["half@corp.example"]}}`,
	} {
		if _, err := js.Publish(t.Context(), objectSubject("corp", guid), []byte(bound(guid, data))); err != nil {
			t.Fatal(err)
		}
	}
	for _, full := range []bool{false, true} {
		r := <-w.edge.mirror.Sync(full)
		for !full && errors.Is(r.Err, context.DeadlineExceeded) && t.Context().Err() == nil {
			r = <-w.edge.mirror.Sync(full) // retry: the machine may be slow
		}
		if full != (r.Err != nil) {
			t.Errorf("full %t: error %v; only a full pass reads what has no end", full, r.Err)
		}
		if got := w.edge.digest(); got != before || w.edge.has("half@corp.example") ||
			!w.edge.has("gone@corp.example") {
			t.Errorf("full %t: the edge has %+v, want %+v", full, got, before)
		}
	}
	republishState(t, js) // a state makes the same messages effective
	eventually(t, "edge follows", func() bool { return !w.edge.has("gone@corp.example") })
	if !w.edge.has("half@corp.example") {
		t.Error("the edge lacks an address of a whole pass")
	}
	w.hub.publish.Lag = time.Millisecond // no other hub knows half@corp.example
	w.hub.start()
	w.still("new")
	if !w.edge.has("gone@corp.example") {
		t.Error("the hub did not repair the stream")
	}
}
