package stream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/address"
)

func TestEdgeAsksHub(t *testing.T) {
	g, d := newGuarded(t), newDomain(t)
	d.fill(3)
	hub := newHub(t, "hub", d, g.client("hub"), func(c *PublisherConfig) {
		c.Find = func(_ context.Context, a address.Address) (found, internalOnly bool, err error) {
			switch a.Local() {
			case "known":
				return true, false, nil
			case "internal":
				return true, true, nil
			case "broken":
				return false, false, errors.New("the controller\nis down")
			case "panic":
				panic("a bug")
			}
			return false, false, nil
		}
	}).start()
	eventually(t, "hub publishes", func() bool { return hub.publisher.Status().Sequence > 0 })
	source, err := g.client("edge").Source("corp", SourceOptions{Timeout: 5 * time.Second, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		local           string
		found, internal bool
		bad             string
	}{
		{"known", true, false, ""}, {"internal", true, true, ""}, {"unknown", false, false, ""},
		{"broken", false, false, "the controller is down"}, {"panic", false, false, "internal error"},
	} {
		t.Run(tt.local, func(t *testing.T) {
			got, err := source.Find(t.Context(), parse(t, tt.local+"@corp.example"))
			if tt.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tt.bad) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil || (len(got) == 1) != tt.found {
				t.Fatalf("%+v, error %v", got, err)
			}
			if tt.found && (got[0].Values[0].InternalOnly != tt.internal ||
				got[0].Values[0].Raw != tt.local+"@corp.example") {
				t.Errorf("%+v", got[0])
			}
		})
	}
	hub.stop()
	if _, err := source.Find(t.Context(), parse(t, "known@corp.example")); err == nil {
		t.Error("an answer without a hub")
	}
}

// TestFlood checks that a hub stops answering for some time after too many queries, and then answers again.
func TestFlood(t *testing.T) {
	g := newGuarded(t)
	p := NewPublisher(PublisherConfig{Client: g.client("hub"), Directory: "corp", Log: quiet(),
		Find: func(context.Context, address.Address) (found, internalOnly bool, err error) { return true, false, nil }})
	p.pause = time.Millisecond
	flooding, stop := context.WithCancel(t.Context())
	defer stop()
	nc, _, err := g.client("edge").js(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		large := make([]byte, 100<<10)
		for flooding.Err() == nil {
			if err := nc.PublishRequest(findSubject("corp"), inboxPrefix("edge")+".x", large); err != nil {
				return
			}
		}
	})
	if err := p.answerUntilFlood(t.Context()); !errors.Is(err, errFlood) {
		t.Fatalf("a flood ends as %v", err)
	}
	stop()
	sender.Wait()
	answering, end := context.WithCancel(t.Context())
	var answers sync.WaitGroup
	answers.Go(func() { p.answer(answering) })
	defer answers.Wait()
	defer end()
	source, err := g.client("edge").Source("corp", SourceOptions{Timeout: time.Second, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer after the flood", func() bool {
		got, err := source.Find(t.Context(), parse(t, "known@corp.example"))
		return err == nil && len(got) == 1
	})
}

func TestFloodLimit(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name  string
		costs []int
		every time.Duration
		over  bool
	}{
		{"at the limit", []int{5, 5}, 0, false},
		{"beyond", []int{5, 5, 1}, 0, true},
		{"one too large", []int{11}, 0, true},
		{"slow enough", []int{5, 5, 5, 5}, time.Second / 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			over := false
			f := flood{limit: 10, within: time.Second, over: func() { over = true }}
			for i, cost := range tt.costs {
				f.add(now.Add(time.Duration(i)*tt.every), cost)
			}
			if over != tt.over {
				t.Errorf("over %t, want %t", over, tt.over)
			}
		})
	}
}
