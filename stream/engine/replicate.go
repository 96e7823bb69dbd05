package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/internal/safely"
)

// bucket is the key-value bucket with the members of a cluster. Members have no right to it.
const bucket = "RCPT_MEMBERS"

// Times of a cluster: quorumTimeout limits a change and stepTimeout one attempt at it, changeRetry is the
// pause between two. retryInterval is the pause after an error of reading.
const (
	quorumTimeout = 15 * time.Second
	stepTimeout   = 5 * time.Second
	changeRetry   = 250 * time.Millisecond
	retryInterval = 2 * time.Second
)

// publish stores a member for all nodes. Without a cluster it does nothing.
func (e *Engine) publish(ctx context.Context, m Member) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return e.change(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Put(ctx, m.Name, data)
		return err
	})
}

// withdraw removes a member from all nodes. Without a cluster it does nothing.
func (e *Engine) withdraw(ctx context.Context, name string) error {
	if _, known := e.members.get(name); !known {
		return fmt.Errorf("%s is %w", name, ErrUnknown)
	}
	return e.change(ctx, func(ctx context.Context, kv jetstream.KeyValue) error { return kv.Delete(ctx, name) })
}

// change changes the bucket of a cluster. While the nodes elect a leader, nothing can be changed, so it
// tries again until quorumTimeout.
func (e *Engine) change(ctx context.Context, do func(context.Context, jetstream.KeyValue) error) error {
	if e.config.Cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quorumTimeout)
	defer cancel()
	for {
		step, end := context.WithTimeout(ctx, stepTimeout)
		err := e.withBucket(step, do)
		end()
		if err == nil {
			return nil
		}
		pause := time.NewTimer(changeRetry)
		select {
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("the cluster of engines cannot store the change: %w; more than half of its nodes must be "+
				"connected", err)
		case <-pause.C:
		}
	}
}

// withBucket calls do with the bucket, which it creates if it is missing.
func (e *Engine) withBucket(ctx context.Context, do func(context.Context, jetstream.KeyValue) error) error {
	nc, err := nats.Connect("", nats.InProcessServer(e), nats.Name("rcpt-milter engine"), nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = e.createBucket(ctx, js)
	}
	if err != nil {
		return err
	}
	return do(ctx, kv)
}

// createBucket creates the bucket with the members of this node, which may have been a single server
// before.
func (e *Engine) createBucket(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucket, Replicas: min(3, len(e.config.Cluster.Routes)), MaxValueSize: 64 << 10,
	})
	if err != nil {
		return nil, err
	}
	return kv, e.fill(ctx, kv)
}

// fill stores the members of this node that a bucket does not have.
func (e *Engine) fill(ctx context.Context, kv jetstream.KeyValue) error {
	for _, m := range e.members.list() {
		data, err := json.Marshal(m)
		if err == nil {
			_, err = kv.Create(ctx, m.Name, data)
		}
		if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
	}
	return nil
}

// replicate applies the changes of other nodes until ctx ends.
func (e *Engine) replicate(ctx context.Context) {
	for ctx.Err() == nil {
		err := safely.Do(e.config.Log, "members of the cluster", func() error { return e.withBucket(ctx, e.follow) })
		if ctx.Err() != nil {
			return
		}
		e.config.Log.Debug("members of the cluster cannot be read", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

// follow applies the content of the bucket, then its changes. After the first content, members that
// it does not have are removed. A bucket without any entry was just created, or was lost with the streams:
// a removal leaves an entry. Then it gets the members of this node.
func (e *Engine) follow(ctx context.Context, kv jetstream.KeyValue) error {
	watch, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer watch.Stop()
	seen, empty, complete := map[string]bool{}, true, false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, open := <-watch.Updates():
			switch {
			case !open:
				return errors.New("the watch has ended")
			case entry == nil: // the end of the first content
				if complete = true; !empty {
					e.removeOthers(seen)
				} else if err := e.fill(ctx, kv); err != nil {
					return err
				}
			case entry.Operation() != jetstream.KeyValuePut:
				empty = false
				e.applied(e.members.remove(entry.Key()))
			default:
				empty, seen[entry.Key()] = false, !complete
				e.applied(e.takeOver(entry.Value()))
			}
		}
	}
}

// takeOver enrols a member as another node stored it.
func (e *Engine) takeOver(data []byte) error {
	var m Member
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("a member of the cluster cannot be read: %w", err)
	}
	if old, known := e.members.get(m.Name); known && old.same(m) {
		return nil
	}
	return e.members.put(m)
}

// removeOthers removes the members that the bucket does not have.
func (e *Engine) removeOthers(seen map[string]bool) {
	for _, m := range e.members.list() {
		if !seen[m.Name] {
			e.applied(e.members.remove(m.Name))
		}
	}
}

// applied logs the error of a change of another node.
func (e *Engine) applied(err error) {
	if err != nil && !errors.Is(err, ErrUnknown) {
		e.config.Log.Warn("cannot apply a change of the members of the cluster", "error", err)
	}
}

// get returns a member by name.
func (m *members) get(name string) (Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one, known := m.all[name]
	return one, known
}
