package stream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
)

// muteCluster is a cluster without a leader: it answers nothing. It records how long requests would wait.
type muteCluster struct {
	jetstream.JetStream
	patience []time.Duration
}

func (m *muteCluster) ask(ctx context.Context) error {
	until, limited := ctx.Deadline()
	if !limited {
		until = time.Now().Add(time.Hour)
	}
	m.patience = append(m.patience, time.Until(until))
	return context.DeadlineExceeded
}

func (m *muteCluster) Stream(ctx context.Context, _ string) (jetstream.Stream, error) {
	return nil, m.ask(ctx)
}

func (m *muteCluster) KeyValue(ctx context.Context, _ string) (jetstream.KeyValue, error) {
	return nil, m.ask(ctx)
}

// TestClusterWithoutLeader: a hub asks again soon if nothing answers, and the pauses in between do not grow.
func TestClusterWithoutLeader(t *testing.T) {
	p := NewPublisher(PublisherConfig{Directory: "corp", Log: quiet()})
	for _, tt := range []struct {
		name string
		ask  func(jetstream.JetStream) error
		want time.Duration
	}{
		{"streams", func(js jetstream.JetStream) error { return p.prepare(t.Context(), js) }, answerTimeout},
		{"lease", func(js jetstream.JetStream) error { _, err := p.acquire(t.Context(), js); return err },
			answerTimeout},
		{"newest state", func(js jetstream.JetStream) error {
			_, err := (&term{p: p, js: js}).look(t.Context())
			return err
		}, lookTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &muteCluster{}
			if err := tt.ask(m); !errors.Is(err, directory.ErrTimeout) {
				t.Fatal(err)
			} else if got := p.nextPause(retryMax, err); got != retryMin {
				t.Errorf("pause %v", got)
			}
			if len(m.patience) != 1 || m.patience[0] > tt.want {
				t.Errorf("it waits for %v, want at most %v", m.patience, tt.want)
			}
		})
	}
}

func TestNextPause(t *testing.T) {
	p := NewPublisher(PublisherConfig{Directory: "corp", Log: quiet()})
	for _, tt := range []struct {
		name string
		last time.Duration
		err  error
		want time.Duration
	}{
		{"good", retryMax, nil, retryMin},
		{"another hub publishes", retryMax, errLeaseHeld, retryMin},
		{"no answer", retryMax, explain(context.DeadlineExceeded), retryMin},
		{"first failure", 0, errLost, retryMin},
		{"second failure", retryMin, errLost, 2 * retryMin},
		{"many failures", retryMax, errLost, retryMax},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := p.nextPause(tt.last, tt.err); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
