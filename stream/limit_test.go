package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rcpt-milter/address"
	"rcpt-milter/store"
)

// objectOfSize returns an object whose message has size bytes, or up to 40 bytes fewer if it is compressed. The
// local parts are random, so compression hardly reduces the size.
func objectOfSize(t *testing.T, guid store.GUID, size int) store.FeedObject {
	t.Helper()
	rnd := rand.NewPCG(1, uint64(size))
	const part = 200
	build := func(addresses, last int) (o store.FeedObject, got int) {
		rnd.Seed(1, uint64(size))
		o = store.FeedObject{GUID: guid, Class: "user"}
		for i := range addresses {
			length := part
			if i == addresses-1 {
				length = last
			}
			o.Addresses = append(o.Addresses,
				store.FeedAddress{Attribute: "mail", Address: randomAddress(t, rnd, length)})
		}
		data, err := encodeObject("corp", o, false, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		return o, len(data)
	}
	tolerance := 0
	if size > compressOver {
		tolerance = 40
	}
	_, sample := build(500, part)
	addresses, last := size*500/sample, part
	for range 40 {
		o, got := build(addresses, last)
		switch missing := size - got; {
		case missing >= 0 && missing <= tolerance:
			return o
		case missing < 0 && last+missing < 1:
			addresses += min(missing/part, -1)
		case last+missing > 2*part:
			addresses += max(missing/(2*part), 1)
		default:
			last += missing
		}
	}
	t.Fatalf("no object of %d bytes", size)
	return store.FeedObject{}
}

// randomAddress returns an address whose local part has the given length.
func randomAddress(t *testing.T, rnd *rand.PCG, length int) address.Address {
	t.Helper()
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	local := make([]byte, length)
	for i := range local {
		local[i] = letters[rnd.Uint64()%uint64(len(letters))]
	}
	return parse(t, string(local)+"@x.example")
}

// owned converts an object of a feed into an object of a store.
func owned(o store.FeedObject) store.Object {
	out := store.Object{GUID: o.GUID, Class: o.Class}
	for _, a := range o.Addresses {
		out.Addresses = append(out.Addresses, store.Owned{Address: a.Address, Attribute: a.Attribute})
	}
	return out
}

// TestMessagesAroundTheLimit sends messages whose sizes are close to the default limit of an engine.
func TestMessagesAroundTheLimit(t *testing.T) {
	e := newEngine(t, nil)
	client := e.client("hub")
	_, js, err := client.js(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := NewPublisher(PublisherConfig{Client: client, Directory: "corp", Log: quiet()})
	if err := p.prepare(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	current := &term{p: p, js: js}
	for i, below := range []int{400, 40, 0} {
		t.Run(fmt.Sprint("below ", below), func(t *testing.T) {
			o := objectOfSize(t, store.GUID{byte(i + 1)}, maxPayload-below)
			if err := current.objects(t.Context(), []store.FeedObject{o}); err != nil {
				t.Fatal(err)
			}
			if fits := !current.tooLarge[o.GUID]; fits != (below == 400) {
				t.Errorf("fits: %t", fits)
			}
		})
	}
}

// TestObjectsAroundTheLimit publishes objects whose messages are close to the limit of the engine. If one does
// not fit, the publisher counts it and continues, and edges defer unknown recipients.
func TestObjectsAroundTheLimit(t *testing.T) {
	const limit = 16 << 10
	for _, below := range []int{2000, 300, 250, 100, 76, 50, 1, 0, -1, -500} {
		t.Run(fmt.Sprint("below ", below), func(t *testing.T) {
			e := newEngine(t, func(o *server.Options) { o.MaxPayload = int32(limit) })
			w := newFed(t, e)
			w.commit(owned(objectOfSize(t, store.GUID{1}, limit-below)))
			w.commit(ownerOf(t, store.GUID{2}, "after@corp.example"))
			eventually(t, "the hub publishes", func() bool { return w.hub.Status().Sequence > 0 })
			edge := newEdge(t, "edge", e.client("edge")).start()
			eventually(t, "the edge has the other object", func() bool { return edge.has("after@corp.example") })
			fits := below >= 300
			s := w.hub.Status()
			if s.LastError != nil || s.TooLarge != 0 != !fits {
				t.Fatalf("error %v, %d objects are too large", s.LastError, s.TooLarge)
			}
			want := 0
			if !fits {
				want = 1
			}
			eventually(t, "the edge counts it", func() bool { return edge.client.Hub("corp").TooLarge == want })
			deferring := &trio{edge: edge}
			eventually(t, "the edge defers unknown recipients, or does not",
				func() bool { return deferring.defers() == !fits })
			w.commit(ownerOf(t, store.GUID{3}, "later@corp.example"))
			eventually(t, "a change arrives", func() bool { return edge.has("later@corp.example") })
			if !edge.has("after@corp.example") {
				t.Error("the edge forgot an address")
			}
		})
	}
}

// TestGrownObjectIsNoRemoval lets an object grow beyond the limit of the engine and shrink again. The edge
// keeps the addresses that it has of the object.
func TestGrownObjectIsNoRemoval(t *testing.T) {
	const limit = 16 << 10
	e := newEngine(t, func(o *server.Options) { o.MaxPayload = limit })
	w, guid := newFed(t, e), store.GUID{1}
	w.commit(ownerOf(t, guid, "kept@corp.example"), ownerOf(t, store.GUID{2}, "other@corp.example"))
	edge := newEdge(t, "edge", e.client("edge")).start()
	eventually(t, "the edge has it", func() bool { return edge.has("kept@corp.example") })
	grown := owned(objectOfSize(t, guid, limit))
	grown.Addresses = append(grown.Addresses, ownerOf(t, guid, "kept@corp.example").Addresses...)
	w.commit(grown)
	deferring := &trio{edge: edge}
	eventually(t, "the edge defers unknown recipients", deferring.defers)
	if r := <-edge.mirror.Sync(true); r.Err != nil {
		t.Error(r.Err)
	}
	if !edge.has("kept@corp.example") {
		t.Error("the edge forgot an address of an object that is too large")
	}
	w.commit(ownerOf(t, guid, "kept@corp.example"), ownerOf(t, store.GUID{2}, "other@corp.example"))
	eventually(t, "the edge defers no longer", func() bool { return !deferring.defers() })
	if !edge.has("kept@corp.example") {
		t.Error("the edge forgot an address")
	}
}

// fed is a hub without a directory; the test writes its store.
type fed struct {
	t     *testing.T
	store *store.Store
	hub   *Publisher
	usn   uint64
}

func newFed(t *testing.T, e *engine) *fed {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := &fed{t: t, store: s}
	w.hub = NewPublisher(PublisherConfig{Client: e.client("hub"), Store: s, Directory: "corp", Version: "test",
		Poll: 200 * time.Millisecond, LeaseTTL: 2 * time.Second, Log: quiet(),
		State: func() SourceState {
			return SourceState{Ready: s.Directory("corp").LastFull.Number > 0, Controller: "dc1"}
		}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.hub.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

// commit commits a pass with these objects. The first pass is a full pass.
func (w *fed) commit(list ...store.Object) {
	w.t.Helper()
	kind := store.Incremental
	if w.usn == 0 {
		kind = store.Full
	}
	p, err := w.store.Begin("corp", kind, store.Origin{Controller: "dc1", Started: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := p.Apply(list); err != nil {
		w.t.Fatal(err)
	}
	if kind == store.Full {
		if err := p.Sweep(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.usn++
	if _, err := p.Commit(store.Outcome{Cursor: []byte("x"), USN: w.usn, Ended: time.Now()}); err != nil {
		w.t.Fatal(err)
	}
	w.hub.Wake()
}

func ownerOf(t *testing.T, guid store.GUID, a string) store.Object {
	t.Helper()
	return store.Object{GUID: guid, Class: "user", Addresses: []store.Owned{{Address: parse(t, a), Attribute: "mail"}}}
}
