package stream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// delayed returns the address of a proxy that delays everything from the engine.
func delayed(t *testing.T, to string, delay time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			go func() { io.Copy(far, near); far.Close() }()
			go func() {
				defer near.Close()
				buffer := make([]byte, 256<<10)
				for {
					n, err := far.Read(buffer)
					if err != nil {
						return
					}
					time.Sleep(delay) // the network that this proxy simulates
					if _, err := near.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestManyReports reads the reports of a thousand edges over a slow network.
func TestManyReports(t *testing.T) {
	const edges = 1000
	e := newEngine(t, nil)
	js := e.admin()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: edgesStream, MaxMsgsPerSubject: 1,
		Subjects: []string{edgesSubjects}}); err != nil {
		t.Fatal(err)
	}
	for i := range edges {
		name := fmt.Sprintf("mx%d", i)
		report := fmt.Appendf(nil, `{"name":%q,"state":"fresh"}`, name)
		if _, err := js.PublishAsync(edgeSubject("corp", name), report); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	address := delayed(t, fmt.Sprintf("127.0.0.1:%d", e.port), 3*time.Millisecond)
	client := e.client("hub", func(c *Config) { c.URLs = []string{"nats://" + address} })
	began := time.Now()
	all, err := client.Edges(t.Context(), "corp")
	if err != nil || len(all) != edges {
		t.Fatalf("%d edges, error %v, want %d", len(all), err, edges)
	}
	if took := time.Since(began); took > edges*3*time.Millisecond {
		t.Errorf("%v: one after the other", took)
	}
}

// TestReportsFail checks that a hub keeps the last reports, and shows why there are no newer ones.
func TestReportsFail(t *testing.T) {
	e := newEngine(t, nil)
	d := newDomain(t)
	d.fill(2)
	hub := newHub(t, "hub", d, e.client("hub")).start()
	eventually(t, "published", func() bool { return hub.publisher.Status().Sequence > 0 })
	p := NewPublisher(*hub.publish) // it does not run
	at := &term{p: p, js: e.admin()}
	good := edgesRead{edges: []EdgeReport{{Name: "mx1"}}, at: time.Now()}
	for _, c := range []struct {
		name string
		read edgesRead
	}{
		{"good", good},
		{"bad", edgesRead{err: errors.New("no answer")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := at.audit(t.Context(), c.read); err != nil {
				t.Fatal(err)
			}
			s := p.Status()
			if len(s.Edges) != 1 || !s.EdgesAt.Equal(good.at) || !errors.Is(s.EdgesError, c.read.err) {
				t.Errorf("edges %+v at %v, error %v", s.Edges, s.EdgesAt, s.EdgesError)
			}
		})
	}
}

// TestReportsOfAFormerHolder checks that a hub that has lost the lease shows no old reports of edges, which would
// look silent.
func TestReportsOfAFormerHolder(t *testing.T) {
	e := newEngine(t, nil)
	d := newDomain(t)
	d.fill(2)
	hub := newHub(t, "hub", d, e.client("hub")).start()
	eventually(t, "hub publishes", func() bool { return hub.publisher.Status().Leading })
	former := newHub(t, "former", d, e.client("former")).start().publisher
	former.update(func(s *PublisherStatus) {
		s.Leading, s.Edges, s.EdgesAt, s.EdgesError, s.Due = true, []EdgeReport{{Name: "mx1"}}, time.Now(),
			errors.New("no answer"), 7
	})
	eventually(t, "the other hub is seen", func() bool {
		s := former.Status()
		return !s.Leading && s.Holder == "hub" && len(s.Edges) == 0 && s.EdgesAt.IsZero() && s.EdgesError == nil &&
			s.Due == 0
	})
}
