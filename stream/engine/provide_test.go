package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streamsOf returns the names of the streams of an engine, sorted.
func streamsOf(t *testing.T, js jetstream.JetStream) (names []string) {
	t.Helper()
	list := js.StreamNames(t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Logf("list of streams: %v", err) // as without a leader
	}
	slices.Sort(names)
	return names
}

// settings returns the settings of a stream. ok is false if it cannot be read.
func settings(t *testing.T, js jetstream.JetStream, name string) (c jetstream.StreamConfig, ok bool) {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		return c, false
	}
	return s.CachedInfo().Config, true
}

// TestStreamsOfHubs checks that an engine creates the streams of hubs as soon as they are enrolled, and creates them
// again.
func TestStreamsOfHubs(t *testing.T) {
	c := testConfig(t, t.TempDir())
	e, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, js := daemonJS(t, e)
	enrol(t, e, "mx1", Edge, "corp")
	if err := e.provideStreams(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := streamsOf(t, js); len(got) > 0 {
		t.Errorf("streams without a hub: %q", got)
	}
	has := func(when string, want ...string) {
		t.Helper()
		waitFor(t, when, func() bool { return slices.Equal(streamsOf(t, js), want) })
	}
	enrol(t, e, "hub", Hub, "corp")
	has("the first hub", "KV_RCPTLEASE", "RCPTEDGES", "RCPT_corp")
	enrol(t, e, "hub", Hub, "corp", "a.b")
	all := []string{"KV_RCPTLEASE", "RCPTEDGES", "RCPT_a=b", "RCPT_corp"}
	has("another directory", all...)
	for _, name := range all {
		if err := e.deleteStream(t.Context(), js, name); err != nil {
			t.Fatal(err)
		}
		has("without "+name, all...)
	}
	other, err := json.Marshal(Member{Name: "hub2", Role: Hub, Directories: []string{"lab"}, Key: e.Members()[0].Key})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.takeOver("hub2", other); err != nil {
		t.Fatal(err)
	}
	has("a hub of another node", append(all, "RCPT_lab")...)
	e.Shutdown()
	e = start(t, c)
	_, js = daemonJS(t, e)
	// The server forgets a deleted stream before it moves its directory away. A stream that is created in between loses
	// its own directory, and is created again after the restart.
	has("a restart", append(all, "RCPT_lab")...)
}

// TestForeignStreams checks that an engine removes settings that hubs of an older version could make: at its start,
// after a restart of JetStream, also from streams of directories without a hub, and without loss of messages.
func TestForeignStreams(t *testing.T) {
	c := testConfig(t, t.TempDir())
	e, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	enrol(t, e, "hub", Hub, "corp", "lab")
	_, js := daemonJS(t, e)
	waitFor(t, "the streams exist", func() bool { return len(streamsOf(t, js)) == 4 })
	steal := func() {
		t.Helper()
		for _, name := range []string{"RCPT_corp", "RCPT_lab", "RCPTEDGES", "KV_RCPTLEASE"} {
			s, ok := settings(t, js, name)
			if !ok {
				t.Fatal(name)
			}
			s.RePublish = &jetstream.RePublish{Source: ">", Destination: "stolen." + name + ".>"}
			s.AllowDirect = true
			if _, err := js.UpdateStream(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	corrected := func(when string) {
		t.Helper()
		for _, name := range []string{"RCPT_corp", "RCPT_lab", "RCPTEDGES", "KV_RCPTLEASE"} {
			waitFor(t, when+": "+name, func() bool {
				s, ok := settings(t, js, name)
				return ok && s.RePublish == nil && !s.AllowDirect
			})
		}
		if s, err := js.Stream(t.Context(), "RCPT_lab"); err != nil || s.CachedInfo().State.Msgs != 1 {
			t.Errorf("%s: %+v, %v", when, s, err)
		}
	}
	if _, err := js.Publish(t.Context(), "rcpt.lab.state", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), "hub"); err != nil {
		t.Fatal(err)
	}
	steal()
	e.Shutdown()
	e = start(t, c)
	_, js = daemonJS(t, e)
	corrected("after a start")
	steal()
	if err := e.server.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	e.revive()
	corrected("after a restart of JetStream")
}

// TestOlderHub does what a hub of version 0.9 does with its credentials: it finds its streams as it wants them, so it
// changes nothing, takes the lease and publishes.
func TestOlderHub(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	rejected := make(chan error, 100)
	nc, err := dial(t, e, enrol(t, e, "hub", Hub, "corp"), nats.CustomInboxPrefix("_INBOX.hub"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { rejected <- err }))
	if err != nil {
		t.Fatal(err)
	}
	_, admin := daemonJS(t, e)
	waitFor(t, "the streams exist", func() bool { return len(streamsOf(t, admin)) == 3 })
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []jetstream.StreamConfig{
		{Name: "RCPT_corp", Subjects: []string{"rcpt.corp.o.*", "rcpt.corp.state"}, MaxMsgsPerSubject: 1,
			MaxMsgSize: 1<<20 + 4096, AllowMsgTTL: true, MaxConsumers: 20_000,
			ConsumerLimits: jetstream.StreamConsumerLimits{InactiveThreshold: 5 * time.Minute}},
		{Name: "RCPTEDGES", Subjects: []string{"rcpt-edge.>"}, MaxMsgsPerSubject: 1, MaxMsgSize: 8 << 10,
			MaxAge: 30 * 24 * time.Hour},
	} {
		found, ok := settings(t, js, want.Name)
		if !ok {
			t.Fatal(want.Name)
		}
		if found.MaxMsgsPerSubject != want.MaxMsgsPerSubject || found.MaxAge != want.MaxAge ||
			found.AllowMsgTTL != want.AllowMsgTTL || found.Retention != want.Retention ||
			!slices.Equal(found.Subjects, want.Subjects) || found.AllowDirect != want.AllowDirect ||
			found.MaxMsgs > 0 ||
			found.MaxMsgSize != want.MaxMsgSize || max(found.MaxConsumers, 0) != max(want.MaxConsumers, 0) ||
			found.ConsumerLimits.InactiveThreshold != want.ConsumerLimits.InactiveThreshold {
			t.Errorf("the hub would change %+v", found)
		}
	}
	kv, err := js.KeyValue(t.Context(), "RCPTLEASE")
	if err != nil {
		t.Fatal(err)
	}
	revision, err := kv.Create(t.Context(), "corp", []byte("x"))
	if err == nil {
		revision, err = kv.Update(t.Context(), "corp", []byte("y"), revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := kv.Get(t.Context(), "corp"); err != nil || string(got.Value()) != "y" {
		t.Errorf("lease %v, %v", got, err)
	}
	if err := kv.Delete(t.Context(), "corp", jetstream.LastRevision(revision)); err != nil {
		t.Error(err)
	}
	if _, err := kv.Create(t.Context(), "corp", []byte("z")); err != nil {
		t.Errorf("the lease again: %v", err)
	}
	expect := jetstream.WithExpectStream("RCPT_corp")
	if _, err := js.Publish(t.Context(), "rcpt.corp.state", []byte("x"), expect); err != nil {
		t.Error(err)
	}
	select {
	case err := <-rejected:
		t.Error(err)
	default:
	}
}

// TestRollupOfLeases: with a rollup, one hub could remove the leases of all others.
func TestRollupOfLeases(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	nc, err := dial(t, e, enrol(t, e, "hub", Hub, "corp"), nats.CustomInboxPrefix("_INBOX.hub"))
	if err != nil {
		t.Fatal(err)
	}
	_, admin := daemonJS(t, e)
	waitFor(t, "the streams exist", func() bool { return len(streamsOf(t, admin)) == 3 })
	leases, err := admin.KeyValue(t.Context(), "RCPTLEASE")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leases.Put(t.Context(), "lab", []byte("x")); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"all", "sub"} {
		m := nats.NewMsg("$KV.RCPTLEASE.corp")
		m.Header.Set(jetstream.MsgRollup, kind)
		if _, err := js.PublishMsg(t.Context(), m); !errors.As(err, new(*jetstream.APIError)) {
			t.Errorf("rollup of %s: %v", kind, err)
		}
	}
	full := nats.NewMsg("$KV.RCPTLEASE.corp")
	full.Data = make([]byte, 900<<10)
	if _, err := js.PublishMsg(t.Context(), full); !errors.As(err, new(*jetstream.APIError)) {
		t.Errorf("a large lease: %v", err)
	}
	if got, err := leases.Get(t.Context(), "lab"); err != nil || string(got.Value()) != "x" {
		t.Errorf("the lease of the other hub: %v, %v", got, err)
	}
}

// clusterConfigs returns the configurations of three nodes, whose certificates the first one issued. It starts the
// first node.
func clusterConfigs(t *testing.T) (first *Engine, configs []Config) {
	t.Helper()
	return clusterFrom(t, testConfig(t, t.TempDir()))
}

// clusterFrom returns the configurations of three nodes, the first of which has been configured as c. It starts the
// first node.
func clusterFrom(t *testing.T, c Config) (first *Engine, configs []Config) {
	t.Helper()
	routes := []string{"tls://" + freePort(t), "tls://" + freePort(t), "tls://" + freePort(t)}
	for i := range 3 {
		if i > 0 {
			c = testConfig(t, t.TempDir())
		}
		c.Cluster = &Cluster{Node: fmt.Sprintf("n%d", i+1), Routes: routes,
			Listen: strings.TrimPrefix(routes[i], "tls://")}
		configs = append(configs, c)
	}
	first = start(t, configs[0])
	for i := 1; i < 3; i++ {
		data, err := first.AddNode(configs[i].Cluster.Node)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "node")
		put(t, file, string(data))
		configs[i].CertFile, configs[i].KeyFile, configs[i].CAFile = file, file, file
	}
	return first, configs
}

// TestStreamsOfCluster checks that the nodes of a cluster create the streams of a hub that was enrolled at one of
// them, with three replicas, once they have a leader.
func TestStreamsOfCluster(t *testing.T) {
	first, configs := clusterConfigs(t)
	all := []*Engine{first, start(t, configs[1]), start(t, configs[2])}
	waitFor(t, "all nodes are ready", func() bool {
		return !slices.ContainsFunc(all, func(e *Engine) bool { return !e.Status().Ready })
	})
	file := enrol(t, all[1], "hub", Hub, "corp")
	for _, e := range all {
		_, js := daemonJS(t, e)
		for _, name := range []string{"RCPT_corp", "RCPTEDGES", "KV_RCPTLEASE"} {
			waitFor(t, e.config.Cluster.Node+" has "+name, func() bool {
				c, ok := settings(t, js, name)
				return ok && c.Replicas == 3
			})
		}
	}
	waitFor(t, "the hub is known everywhere", func() bool { return len(all[2].Members()) == 1 })
	nc, err := dial(t, all[2], file, nats.CustomInboxPrefix("_INBOX.hub"))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "rcpt.corp.state", []byte("x")); err != nil {
		t.Error(err)
	}
	_, admin := daemonJS(t, first)
	if err := first.deleteStream(t.Context(), admin, "KV_"+bucket); err != nil { // as an engine of version 0.9 can
		t.Fatal(err)
	}
	enrol(t, all[1], "mx1", Edge, "corp")
	for _, e := range all {
		waitFor(t, "both are known everywhere", func() bool { return len(e.Members()) == 2 })
	}
}
