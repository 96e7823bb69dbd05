package engine

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// TestEmptyBucket checks that an empty bucket, such as a new one, removes no member and receives those of this
// node. Any other bucket removes the members that it lacks.
func TestEmptyBucket(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(context.Context, jetstream.KeyValue) error
		keeps  bool
	}{
		{"new", func(context.Context, jetstream.KeyValue) error { return nil }, true},
		{"another member was removed", func(ctx context.Context, kv jetstream.KeyValue) error {
			return kv.Delete(ctx, "mx9")
		}, false},
		{"another member", func(ctx context.Context, kv jetstream.KeyValue) error {
			_, err := kv.Put(ctx, "mx9", []byte(`{"name":"mx9"}`))
			return err
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := start(t, testConfig(t, t.TempDir()))
			enrol(t, e, "mx1", Edge, "corp")
			_, js := daemonJS(t, e)
			kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.before(t.Context(), kv); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			followed := make(chan struct{})
			go func() { defer close(followed); _ = e.follow(ctx, kv) }()
			defer func() { stop(); <-followed }()
			waitFor(t, "the content is applied", func() bool {
				_, known := e.members.get("mx1")
				_, err := kv.Get(t.Context(), "mx1")
				return known == c.keeps && (err == nil) == c.keeps
			})
		})
	}
}
