package stream

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

const (
	people = "OU=People,DC=corp,DC=example"
	soon   = 3 * time.Minute // limit for everything that must happen
)

// domain is a simulated Active Directory with one controller.
type domain struct {
	t      *testing.T
	d      *adsim.Directory
	server *adsim.Server
}

func newDomain(t *testing.T) *domain {
	t.Helper()
	d := &domain{t: t, d: adsim.NewDirectory(adsim.DirectoryConfig{})}
	d.server = adsim.StartTest(t, d.d, adsim.ServerConfig{})
	if _, err := d.d.Add(adsim.OU, people, nil); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *domain) add(name string, addresses ...string) adsim.GUID {
	d.t.Helper()
	guid, err := d.d.Add(adsim.User, "CN="+name+","+people, proxies(addresses))
	if err != nil {
		d.t.Fatal(err)
	}
	return guid
}

func proxies(addresses []string) adsim.Attrs {
	attrs := adsim.Attrs{}
	for _, a := range addresses {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], "smtp:"+a)
	}
	return attrs
}

// node is a store with a mirror. A hub also has a publisher.
type node struct {
	t      *testing.T
	name   string
	dir    string // of the store
	store  *store.Store
	mirror *mirror.Mirror
	config mirror.Config
	client *Client
	source SourceOptions // used by an edge

	publisher *Publisher
	publish   *PublisherConfig // nil for an edge
	offset    atomic.Int64     // added to its clock
	passed    chan mirror.PassResult
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

func newNode(t *testing.T, name string, client *Client, dial func(context.Context) (mirror.Source, error)) *node {
	n := &node{t: t, name: name, dir: t.TempDir(), client: client}
	n.config = mirror.Config{Name: "corp", Poll: 300 * time.Millisecond, Full: 24 * time.Hour, Notify: true,
		Debounce:   5 * time.Millisecond,
		Candidates: []mirror.Candidate{{Name: name + " source", Dial: dial}},
		Limits:     mirror.Limits{LateAfter: 15 * time.Minute, StaleAfter: 4 * time.Hour},
		Guard:      mirror.Guard{Max: 1000, Count: 50, Percent: 50, Share: 60, Window: time.Hour},
		Log:        quiet().With("node", name), Now: n.now}
	return n
}

// newHub returns a hub of a domain. The caller starts it.
func newHub(t *testing.T, name string, d *domain, client *Client, change ...func(*PublisherConfig)) *node {
	t.Helper()
	ca, err := d.server.WriteCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	config := directory.Config{URL: d.server.URL(), BindDN: d.server.BindDN(), CAFile: ca, Timeout: 5 * time.Second,
		Password: func() ([]byte, error) { return []byte(d.server.Password()), nil }}
	n := newNode(t, name, client,
		func(ctx context.Context) (mirror.Source, error) { return directory.Dial(ctx, config) })
	n.publish = &PublisherConfig{Client: client, Directory: "corp", Poll: 200 * time.Millisecond, State: n.state,
		Version: "test", LeaseTTL: 2 * time.Second, Now: n.now, Log: quiet().With("node", name)}
	for _, f := range change {
		f(n.publish)
	}
	return n
}

// newEdge returns an edge. The caller starts it.
func newEdge(t *testing.T, name string, client *Client) *node {
	t.Helper()
	var n *node
	n = newNode(t, name, client, func(context.Context) (mirror.Source, error) {
		return client.Source("corp", n.source)
	})
	n.source = SourceOptions{Timeout: 3 * time.Second, Log: quiet().With("node", name)}
	n.config.Rules.Published = true
	return n
}

func (n *node) now() time.Time { return time.Now().Add(time.Duration(n.offset.Load())) }

// state describes the mirror of a hub.
func (n *node) state() SourceState {
	s := n.mirror.Status()
	ready := s.State != mirror.NotReady && s.State != mirror.Widening
	return SourceState{Ready: ready, Behind: s.State == mirror.Late || s.State == mirror.Stale,
		Age: n.now().Sub(s.LastGood), Controller: s.Controller, Pass: s.Full.Number}
}

// start runs the node until stop or the end of the test.
func (n *node) start() *node {
	n.t.Helper()
	s, err := store.Open(context.Background(), store.Config{Dir: n.dir, Now: n.now})
	if err != nil {
		n.t.Fatal(err)
	}
	n.store, n.config.Store = s, s
	n.passed = make(chan mirror.PassResult, 1000)
	n.config.Observe.Pass = func(r mirror.PassResult) {
		if n.publisher != nil && r.Err == nil {
			n.publisher.Wake()
		}
		select {
		case n.passed <- r:
		default:
		}
	}
	if n.publish != nil {
		n.publish.Store = s
		n.publisher = NewPublisher(*n.publish)
	}
	if n.mirror, err = mirror.New(n.config); err != nil {
		n.t.Fatal(err)
	}
	if n.publish == nil {
		n.client.mu.Lock()
		n.client.config.Connected = n.mirror.Retry
		n.client.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.running.Go(func() { _ = n.mirror.Run(ctx) })
	if n.publisher != nil {
		n.running.Go(func() { _ = n.publisher.Run(ctx) })
	}
	n.t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	n.running.Wait()
	if err := n.store.Close(); err != nil {
		n.t.Error(err)
	}
}

// has reports whether lookups find an address.
func (n *node) has(text string) bool {
	n.t.Helper()
	p, err := n.store.Lookup(parse(n.t, text))
	if err != nil {
		n.t.Fatal(err)
	}
	return p.Known
}

func (n *node) digest() store.Digest {
	n.t.Helper()
	d, err := n.store.Digest("corp")
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// eventually waits until holds returns true. It polls, because several processes are involved.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", soon, what)
		}
	}
}

// equal waits until all edges have the digest of the hub.
func equal(t *testing.T, hub *node, edges ...*node) {
	t.Helper()
	for _, e := range edges {
		eventually(t, fmt.Sprintf("%s equals %s", e.name, hub.name), func() bool {
			d := hub.digest()
			state, _ := e.mirror.State()
			return d.Objects > 0 && d == e.digest() && state == mirror.Fresh
		})
	}
}

// fill adds people to a domain.
func (d *domain) fill(n int) {
	d.t.Helper()
	for i := range n {
		d.add(fmt.Sprintf("p%d", i), fmt.Sprintf("p%d@corp.example", i))
	}
}
