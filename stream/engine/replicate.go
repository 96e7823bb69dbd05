package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/internal/safely"
)

// bucket is the key-value bucket with the members of a cluster. Members themselves cannot access it.
const bucket = "RCPT_MEMBERS"

// quorumTimeout limits a change of the bucket, stepTimeout limits one attempt, and changeRetry is the pause
// between attempts. retryInterval is the pause after a read error.
const (
	quorumTimeout = 15 * time.Second
	stepTimeout   = 5 * time.Second
	changeRetry   = 250 * time.Millisecond
	retryInterval = 2 * time.Second
)

// publish stores a member for all nodes. It does nothing without a cluster.
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

// withdraw removes a member from all nodes. It does nothing without a cluster.
func (e *Engine) withdraw(ctx context.Context, name string) error {
	if _, known := e.members.get(name); !known {
		return fmt.Errorf("%s is %w", name, ErrUnknown)
	}
	return e.change(ctx, func(ctx context.Context, kv jetstream.KeyValue) error { return kv.Delete(ctx, name) })
}

// change modifies the bucket of a cluster. It retries until quorumTimeout, because the bucket cannot change
// while the nodes elect a leader.
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
			return fmt.Errorf("the cluster of engines cannot store the change: %w; more than half of its nodes must "+
				"be connected", err)
		case <-pause.C:
		}
	}
}

// withBucket calls do with the bucket. It creates the bucket if it is missing.
func (e *Engine) withBucket(ctx context.Context, do func(context.Context, jetstream.KeyValue) error) error {
	return e.withJetStream(func(js jetstream.JetStream) error {
		kv, err := js.KeyValue(ctx, bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = e.createBucket(ctx, js)
		}
		if err != nil {
			return err
		}
		return do(ctx, kv)
	})
}

// createBucket creates the bucket. It fills it with the members of this node, which may have been a single
// server before.
func (e *Engine) createBucket(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucket, Replicas: e.replicas(), MaxValueSize: 64 << 10,
	})
	if err != nil {
		return nil, err
	}
	return kv, e.fill(ctx, kv)
}

// fill stores the members of this node that the bucket does not have.
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
		e.config.Log.Debug("cannot read the members of the cluster", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

// follow applies the content of the bucket and then its changes. After the initial content, it removes the
// members that the bucket lacks. If the bucket has no entry at all, it was just created or was lost with the
// streams, because even a removal leaves an entry. Then follow fills it with the members of this node.
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
			case entry == nil: // end of the initial content
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
				e.applied(e.takeOver(entry.Key(), entry.Value()))
			}
		}
	}
}

// takeOver enrols a member as another node stored it under its name.
func (e *Engine) takeOver(name string, data []byte) error {
	var m Member
	err := json.Unmarshal(data, &m)
	if err == nil {
		err = m.check(name)
	}
	if err != nil {
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

// applied logs an error that occurred when a change of another node was applied.
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
