package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"rcpt-milter/store"
)

// TestMeasure prints how fast a hub publishes, how fast an edge reads everything, and how long a change takes
// from the store of the hub to that of the edge. STREAM_MEASURE sets the number of objects.
func TestMeasure(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("STREAM_MEASURE"))
	if err != nil {
		t.Skip("STREAM_MEASURE is not set to a number of objects")
	}
	e := newEngine(t, nil)
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wait := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 5 minutes: %s", what)
			}
		}
	}
	usn := uint64(0)
	commit := func(kind store.Kind, list ...store.Object) {
		t.Helper()
		p, err := s.Begin("corp", kind, store.Origin{Controller: "dc1", Started: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		for page := range slices.Chunk(list, 1000) {
			if _, err := p.Apply(page); err != nil {
				t.Fatal(err)
			}
		}
		if kind == store.Full {
			if err := p.Sweep(); err != nil {
				t.Fatal(err)
			}
		}
		usn++
		if _, err := p.Commit(store.Outcome{Cursor: []byte("x"), USN: usn, Ended: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	person := func(i int) store.Object {
		o := store.Object{Class: "user", DN: fmt.Sprintf("CN=p%d,DC=corp,DC=example", i), Addresses: []store.Owned{
			{Address: parse(t, fmt.Sprintf("p%d@corp.example", i)), Attribute: "proxyaddresses"},
			{Address: parse(t, fmt.Sprintf("firstname.lastname%d@corp.example", i)), Attribute: "proxyaddresses"}}}
		binary.BigEndian.PutUint32(o.GUID[:], uint32(i+1))
		return o
	}
	if err := s.SetFeed("corp", true); err != nil {
		t.Fatal(err)
	}
	all := make([]store.Object, n)
	for i := range all {
		all[i] = person(i)
	}
	commit(store.Full, all...)

	hub := NewPublisher(PublisherConfig{Client: e.client("hub"), Store: s, Directory: "corp", Poll: time.Minute,
		State: func() SourceState { return SourceState{Ready: true, Controller: "dc1"} }, Log: quiet()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- hub.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	wait("the hub publishes", func() bool { return hub.Status().Sequence > 0 })
	took := time.Since(began)
	t.Logf("publishing of %d objects: %.1f s, %.0f objects/s", n, took.Seconds(), float64(n)/took.Seconds())

	began = time.Now()
	edge := newEdge(t, "edge", e.client("edge")).start()
	want, err := s.Digest("corp")
	if err != nil {
		t.Fatal(err)
	}
	wait("the edge equals the hub", func() bool { return edge.digest() == want })
	took = time.Since(began)
	t.Logf("full read of %d objects by an edge: %.1f s, %.0f objects/s", n, took.Seconds(), float64(n)/took.Seconds())
	wait("the edge is notified", func() bool { return edge.mirror.Status().Notified })

	var delays []time.Duration
	for i := range 100 {
		o := person(n + i)
		commit(store.Incremental, o)
		began := time.Now()
		hub.Wake()
		wait("the edge has a change", func() bool { return edge.has(o.Addresses[0].Address.String()) })
		delays = append(delays, time.Since(began))
	}
	slices.Sort(delays)
	t.Logf("change from store to store, of 100: median %v, worst %v", delays[50], delays[99])
}
