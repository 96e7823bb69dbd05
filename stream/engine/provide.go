package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/internal/safely"
	"rcpt-milter/stream"
)

// provideInterval is the interval between looks for missing streams, and correctInterval between checks of their
// settings. provideRetry is the pause after the first failure; it doubles up to maxProvideRetry. Failures are
// expected while a cluster has no leader, so they are logged after provideQuiet.
const (
	provideInterval = 5 * time.Second
	correctInterval = 10 * time.Minute
	provideRetry    = 250 * time.Millisecond
	maxProvideRetry = 15 * time.Second
	provideQuiet    = 30 * time.Second
)

// provide creates and corrects the streams of the enrolled hubs until ctx ends: at the start, after each change of
// the members, after a restart of JetStream, and at intervals. All nodes of a cluster may do so at the same time.
func (e *Engine) provide(ctx context.Context) {
	var pause time.Duration
	var failing time.Time // when the first failure since the last success was; zero means none
	var checked time.Time // when the settings of all streams were last correct; zero means that they are due
	logged := false
	for ctx.Err() == nil {
		due := time.Since(checked) >= correctInterval
		err := safely.Do(e.config.Log, "streams of the engine", func() error { return e.provideStreams(ctx, due) })
		switch {
		case err == nil:
			if due {
				checked = time.Now()
			}
			pause, failing, logged = provideInterval, time.Time{}, false
		case failing.IsZero():
			pause, failing, checked = provideRetry, time.Now(), time.Time{}
		default:
			pause = min(2*pause, maxProvideRetry)
		}
		if err != nil && !logged && time.Since(failing) >= provideQuiet && ctx.Err() == nil {
			e.config.Log.Warn("cannot prepare the streams of the engine; trying again", "error", err)
			logged = true
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-e.provideNow:
			checked = time.Time{}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// wakeProvide makes provide check the streams without delay. It never blocks.
func (e *Engine) wakeProvide() {
	select {
	case e.provideNow <- struct{}{}:
	default: // already requested
	}
}

// provideStreams creates the streams of the enrolled hubs, and corrects all streams. Unless all are due, it does
// nothing if no stream is missing.
func (e *Engine) provideStreams(ctx context.Context, due bool) error {
	return e.withJetStream(func(js jetstream.JetStream) error {
		s := stream.Streams{JS: js, Replicas: []int{e.replicas()}, Raise: true, Log: e.config.Log,
			Delete: func(ctx context.Context, name string) error { return e.deleteStream(ctx, js, name) }}
		directories := e.members.published()
		if !due {
			if len(directories) == 0 {
				return nil
			}
			if missing, err := s.Missing(ctx, directories...); err != nil || !missing {
				return err
			}
		}
		var failed error
		if len(directories) > 0 {
			failed = s.Ensure(ctx, directories...)
		}
		failed = errors.Join(failed, s.Correct(ctx))
		if e.config.Cluster != nil {
			ctx, cancel := context.WithTimeout(ctx, stepTimeout)
			defer cancel()
			failed = errors.Join(failed, s.RaiseReplicas(ctx, "KV_"+bucket))
		}
		return failed
	})
}

// replicas returns the number of replicas of a new stream.
func (e *Engine) replicas() int {
	if e.config.Cluster == nil {
		return 1
	}
	return min(3, len(e.config.Cluster.Routes))
}

// withJetStream calls do with a connection within this process.
func (e *Engine) withJetStream(do func(jetstream.JetStream) error) error {
	nc, err := nats.Connect("", nats.InProcessServer(e), nats.Name("rcpt-milter engine"), nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return do(js)
}

// published returns the directories of all enrolled hubs, sorted.
func (m *members) published() (directories []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.all {
		if one.Role == Hub {
			directories = append(directories, one.Directories...)
		}
	}
	slices.Sort(directories)
	return slices.Compact(directories)
}
