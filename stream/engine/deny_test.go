package engine

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestAnswersAreNoRequests makes the engine send empty answers to the subjects of requests that a member may not
// publish. The engine denies such requests, also after it has reloaded its options, and can still replace a stream
// itself.
func TestAnswersAreNoRequests(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	enrol(t, e, "hub", Hub, "corp")
	file := enrol(t, e, "mx1", Edge, "corp")
	_, js := daemonJS(t, e)
	names := []string{"KV_RCPTLEASE", "RCPTEDGES", "RCPT_corp"}
	waitFor(t, "the streams exist", func() bool { return len(streamsOf(t, js)) == len(names) })
	const next, empty = "$JS.API.CONSUMER.MSG.NEXT.RCPT_corp.c", `{"batch":1,"no_wait":true}`
	attack := func() {
		t.Helper()
		nc, err := dial(t, e, file, nats.CustomInboxPrefix("_INBOX.mx1"))
		if err != nil {
			t.Fatal(err)
		}
		config := `{"stream_name":"RCPT_corp","config":{"name":"c","deliver_policy":"new","ack_policy":"none"}}`
		if _, err := nc.Request("$JS.API.CONSUMER.CREATE.RCPT_corp", []byte(config), 5*time.Second); err != nil {
			t.Fatal(err)
		}
		for _, api := range denied {
			for _, name := range names {
				to := strings.Replace(strings.Replace(api, "*", name, 1), "*", "c", 1)
				if err := nc.PublishRequest(next, to, []byte(empty)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := nc.Request(next, []byte(empty), 5*time.Second); err != nil { // comes after all others
			t.Fatal(err)
		}
		// A request that is queued behind those of the attack.
		if err := js.DeleteConsumer(t.Context(), "RCPT_corp", "c"); err != nil {
			t.Fatal(err)
		}
	}
	created := func(name string) time.Time {
		t.Helper()
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return s.CachedInfo().Created
	}
	before := map[string]time.Time{}
	for _, name := range names {
		before[name] = created(name)
	}
	isUnchanged := func(when string) {
		t.Helper()
		for _, name := range names {
			if at := created(name); !at.Equal(before[name]) {
				t.Errorf("%s: %s was created at %s, and again at %s", when, name, before[name], at)
			}
		}
	}
	attack()
	isUnchanged("after the start")
	if options, err := e.options(); err != nil || e.reload(options) != nil {
		t.Fatalf("reload: %v", err)
	}
	attack()
	isUnchanged("after a reload of the options")

	if err := js.DeleteStream(t.Context(), "RCPTEDGES"); err == nil {
		t.Error("a request over a connection of the daemon deletes a stream")
	}
	if err := e.deleteStream(t.Context(), js, "RCPTEDGES"); err != nil {
		t.Error(err)
	}
	waitFor(t, "the stream exists again", func() bool {
		s, err := js.Stream(t.Context(), "RCPTEDGES")
		return err == nil && !s.CachedInfo().Created.Equal(before["RCPTEDGES"])
	})
	before["RCPTEDGES"] = created("RCPTEDGES")
	attack()
	isUnchanged("after a replaced stream")
	if err := e.deleteStream(t.Context(), js, "RCPT_none"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error(err)
	}
	attack()
	isUnchanged("after a failed deletion")
}

// TestAcknowledgementsAreNoRequests makes the engine send the acknowledgement of a report to the subjects of requests
// that a member may not publish. They have no effect, also after a restart of JetStream.
func TestAcknowledgementsAreNoRequests(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	enrol(t, e, "other", Hub, "lab")
	enrol(t, e, "hub", Hub, "corp")
	file := enrol(t, e, "mx1", Edge, "corp")
	admin, js := daemonJS(t, e)
	names := []string{"KV_RCPTLEASE", "RCPTEDGES", "RCPT_corp", "RCPT_lab"}
	waitFor(t, "the streams exist", func() bool { return slices.Equal(streamsOf(t, js), names) })
	nc, err := dial(t, e, file, nats.CustomInboxPrefix("_INBOX.mx1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"after the start", "after a restart"} {
		if when == "after a restart" {
			if err := e.server.ShutdownJetStream(); err != nil {
				t.Fatal(err)
			}
			e.revive()
			waitFor(t, "the streams exist again", func() bool { return slices.Equal(streamsOf(t, js), names) })
		}
		want, _ := settings(t, js, "RCPT_lab")
		const report = "rcpt-edge.corp.mx1"
		for _, to := range []string{"RESTORE.NEW", "CREATE.NEW", "UPDATE.RCPT_lab"} {
			if err := nc.PublishRequest(report, "$JS.API.STREAM."+to, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := nc.Request(report, []byte("{}"), 5*time.Second); err != nil { // comes after all others
			t.Fatal(when, err)
		}
		m, err := admin.Request("$JS.API.STREAM.RESTORE.NEW", []byte("{}"), 5*time.Second)
		if !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: a restore gets the answer %+v, %v", when, m, err)
		}
		m, err = admin.Request("$JS.API.STREAM.CREATE.NEW", []byte(`{"name":"NEW","stream":"RCPT_corp"}`),
			5*time.Second)
		if err != nil || !strings.Contains(string(m.Data), `"error"`) {
			t.Errorf("%s: a request with a field of an acknowledgement gets the answer %+v, %v", when, m, err)
		}
		if got := streamsOf(t, js); !slices.Equal(got, names) {
			t.Errorf("%s: streams %q", when, got)
		}
		if got, _ := settings(t, js, "RCPT_lab"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: settings %+v, want %+v", when, got, want)
		}
	}
}

// TestMessagesAreNoRequests makes the engine deliver a message of a hub, which is a request to change the stream of
// another directory, to the subject of that request.
func TestMessagesAreNoRequests(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	enrol(t, e, "other", Hub, "lab")
	file := enrol(t, e, "hub", Hub, "corp")
	admin, js := daemonJS(t, e)
	waitFor(t, "the streams exist", func() bool { return len(streamsOf(t, js)) == 4 })
	want, ok := settings(t, js, "RCPT_lab")
	if !ok {
		t.Fatal("no stream of lab")
	}
	stolen := want
	stolen.RePublish = &jetstream.RePublish{Source: ">", Destination: "_INBOX.hub.>"}
	body, err := json.Marshal(stolen)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := dial(t, e, file, nats.CustomInboxPrefix("_INBOX.hub"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("rcpt.corp.o.00112233445566778899aabbccddeeff", body, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	const to = "$JS.API.STREAM.UPDATE.RCPT_lab"
	for _, config := range []string{
		`{"name":"push","deliver_policy":"all","ack_policy":"none","deliver_subject":"` + to + `"}`,
		`{"name":"pull","deliver_policy":"all","ack_policy":"none"}`,
	} {
		request := `{"stream_name":"RCPT_corp","config":` + config + `}`
		if _, err := nc.Request("$JS.API.CONSUMER.CREATE.RCPT_corp", []byte(request), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	const next = "$JS.API.CONSUMER.MSG.NEXT.RCPT_corp.pull"
	if err := nc.PublishRequest(next, to, []byte(`{"batch":1,"no_wait":true}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request(next, []byte(`{"batch":1,"no_wait":true}`), 5*time.Second); err != nil {
		t.Fatal(err) // it comes after the one before
	}
	for _, name := range []string{"push", "pull"} {
		waitFor(t, name+" has delivered the message", func() bool {
			c, err := js.Consumer(t.Context(), "RCPT_corp", name)
			return errors.Is(err, jetstream.ErrNotPullConsumer) || err == nil && c.CachedInfo().NumPending == 0
		})
	}
	if got, _ := settings(t, js, "RCPT_lab"); got.RePublish != nil {
		t.Error("a message of a hub has changed the stream of another directory")
	}
	m, err := admin.Request(to, body, 5*time.Second)
	if got, _ := settings(t, js, "RCPT_lab"); err != nil || got.RePublish == nil {
		t.Errorf("the same request from the daemon: %v, %v", m, err)
	}
}
