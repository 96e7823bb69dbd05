package engine

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// replicated reports whether a stream has this number of replicas.
func replicated(t *testing.T, js jetstream.JetStream, name string, n int) bool {
	t.Helper()
	c, ok := settings(t, js, name)
	return ok && c.Replicas == n
}

// TestReplicasAreRaised checks that the nodes of a cluster give more replicas to streams that have too few, because
// they were created while the cluster was smaller, or while one of its nodes did not run. It loses no message.
func TestReplicasAreRaised(t *testing.T) {
	first, configs := clusterConfigs(t)
	all := []*Engine{first, start(t, configs[1]), start(t, configs[2])}
	waitFor(t, "all nodes are ready", func() bool {
		return !slices.ContainsFunc(all, func(e *Engine) bool { return !e.Status().Ready })
	})
	enrol(t, first, "hub", Hub, "corp")
	_, js := daemonJS(t, first)
	streams := []string{"KV_RCPTLEASE", "KV_" + bucket, "RCPTEDGES", "RCPT_corp"}
	waitFor(t, "the streams exist", func() bool { return slices.Equal(streamsOf(t, js), streams) })
	for _, name := range streams {
		waitFor(t, name+" can have one replica", func() bool {
			c, _ := settings(t, js, name)
			c.Replicas = 1
			_, err := js.UpdateStream(t.Context(), c)
			return err == nil && replicated(t, js, name, 1)
		})
	}
	waitFor(t, "a message is stored", func() bool {
		_, err := js.Publish(t.Context(), "rcpt.corp.state", []byte("x"))
		return err == nil
	})
	if err := first.provideStreams(t.Context(), true); err != nil {
		t.Error(err)
	}
	for _, name := range streams {
		waitFor(t, name+" has three replicas", func() bool { return replicated(t, js, name, 3) })
	}
	waitFor(t, "the message is there", func() bool {
		s, err := js.Stream(t.Context(), "RCPT_corp")
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
}

// TestEngineGrows checks that a single engine that becomes a node of a cluster keeps its members, and that all
// streams have three replicas afterwards.
func TestEngineGrows(t *testing.T) {
	c := testConfig(t, t.TempDir())
	single, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	enrol(t, single, "hub", Hub, "corp")
	_, js := daemonJS(t, single)
	waitFor(t, "the streams exist", func() bool { return len(streamsOf(t, js)) == 3 })
	if _, err := js.Publish(t.Context(), "rcpt.corp.state", []byte("x")); err != nil {
		t.Fatal(err)
	}
	single.Shutdown()
	first, more := clusterFrom(t, c)
	all := []*Engine{first, start(t, more[1]), start(t, more[2])}
	waitFor(t, "all nodes are ready", func() bool {
		return !slices.ContainsFunc(all, func(e *Engine) bool { return !e.Status().Ready })
	})
	_, js = daemonJS(t, first)
	for _, name := range []string{"KV_" + bucket, "KV_RCPTLEASE", "RCPTEDGES", "RCPT_corp"} {
		waitFor(t, name+" has three replicas", func() bool { return replicated(t, js, name, 3) })
	}
	for _, e := range all {
		waitFor(t, "the hub is known everywhere", func() bool { return len(e.Members()) == 1 })
	}
}
