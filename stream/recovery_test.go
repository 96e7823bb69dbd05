package stream

import (
	"net"
	"sync"
	"testing"
	"time"

	"rcpt-milter/mirror"
	"rcpt-milter/testenv/adsim"
)

// promptly limits the time that a fleet may take to recover after its connections are back. It usually takes
// less than 2 seconds; the rest is a margin for busy machines.
const promptly = 15 * time.Second

// unhurried returns a fleet with production timeouts.
func unhurried(t *testing.T, e *engine, hubAt, edgeAt string) *trio {
	t.Helper()
	w := &trio{t: t, engine: e, domain: newDomain(t)}
	w.domain.fill(20)
	at := func(url string) func(*Config) { return func(c *Config) { c.URLs = []string{url} } }
	w.hub = newHub(t, "hub", w.domain, e.client("hub", at(hubAt)), func(c *PublisherConfig) { c.LeaseTTL = 0 }).start()
	w.edge = newEdge(t, "edge", e.client("edge", at(edgeAt)))
	w.edge.source = SourceOptions{Log: quiet()}
	w.edge.start()
	equal(t, w.hub, w.edge)
	return w
}

// outage waits until hub and edge have lost the engine, and until the edge has a long pause between attempts.
func (w *trio) outage() {
	w.t.Helper()
	eventually(w.t, "hub and edge have no connection", func() bool {
		return !w.hub.client.Status().Connected && !w.edge.client.Status().Connected
	})
	for failed := 0; failed < 5; {
		select {
		case r := <-w.edge.passed:
			if r.Err != nil {
				failed++
			}
		case <-time.After(soon):
			w.t.Fatal("the edge makes no passes")
		}
	}
}

// recovers fails unless the edge soon follows the hub after both are connected.
func (w *trio) recovers() {
	w.t.Helper()
	before := w.edge.mirror.Status().USN
	eventually(w.t, "hub and edge are connected", func() bool {
		return w.hub.client.Status().Connected && w.edge.client.Status().Connected
	})
	began := time.Now()
	eventually(w.t, "edge follows", func() bool {
		s := w.edge.mirror.Status()
		return s.USN > before && s.LastError == nil && s.Notified
	})
	if took := time.Since(began); took > promptly {
		w.t.Errorf("recovery took %v", took)
	}
	w.still("recovered")
}

// TestRecoveryAfterRestart stops the engine until hub and edge have long pauses between attempts.
func TestRecoveryAfterRestart(t *testing.T) {
	e := newEngine(t, nil)
	w := unhurried(t, e, e.url(), e.url())
	e.stop()
	w.outage()
	e.start()
	w.recovers()
}

// TestRecoveryAfterBlip restarts the engine at once, so the edge may still use a consumer that is gone.
func TestRecoveryAfterBlip(t *testing.T) {
	e := newEngine(t, nil)
	w := unhurried(t, e, e.url(), e.url())
	lost := w.edge.client.Status().Since
	e.stop()
	e.start()
	eventually(t, "edge and hub notice", func() bool {
		return w.edge.client.Status().Since.After(lost) && w.hub.client.Status().Since.After(lost)
	})
	w.recovers()
}

// TestRecoveryAfterCut cuts the network silently: neither side is notified.
func TestRecoveryAfterCut(t *testing.T) {
	e := newEngine(t, nil)
	n := newNetwork(t, e.url()[len("nats://"):])
	w := unhurried(t, e, n.url(), n.url())
	cut := time.Now()
	n.cut()
	w.outage()
	if noticed := w.edge.client.Status().Since.Sub(cut); noticed > silenceLimit+promptly {
		t.Errorf("the edge noticed after %v", noticed)
	}
	n.heal()
	w.recovers()
}

// network forwards connections to an engine.
type network struct {
	listener net.Listener
	to       string
	done     chan struct{} // closed at the end of the test
	running  sync.WaitGroup

	mu     sync.Mutex
	dead   chan struct{} // closed when the current connections are cut
	healed chan struct{} // closed when new connections work
}

func newNetwork(t *testing.T, to string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{listener: l, to: to, done: make(chan struct{}), dead: make(chan struct{}),
		healed: make(chan struct{})}
	close(n.healed)
	n.running.Go(func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			n.running.Go(func() { n.forward(conn) })
		}
	})
	t.Cleanup(func() {
		close(n.done)
		l.Close()
		n.running.Wait()
	})
	return n
}

func (n *network) url() string { return "nats://" + n.listener.Addr().String() }

// cut silences the current connections without closing them. New connections are silent, too, until heal.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.dead)
	n.dead, n.healed = make(chan struct{}), make(chan struct{})
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.healed)
}

// forward relays one connection.
func (n *network) forward(conn net.Conn) {
	defer conn.Close()
	n.mu.Lock()
	dead, healed := n.dead, n.healed
	n.mu.Unlock()
	select {
	case <-healed:
	case <-n.done:
		return
	}
	to, err := net.Dial("tcp", n.to)
	if err != nil {
		return
	}
	defer to.Close()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{conn, to}, {to, conn}} {
		n.running.Go(func() {
			pump(way[0], way[1], dead, n.done)
			ended <- struct{}{}
		})
	}
	select {
	case <-ended:
	case <-n.done:
	}
}

// pump copies until one side closes. Once dead is closed, it copies nothing more and waits for done.
func pump(from, to net.Conn, dead, done <-chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		count, err := from.Read(buffer)
		select {
		case <-dead:
			<-done
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:count]); err != nil {
			return
		}
	}
}

// TestHubBehindYields runs two hubs. A hub that loses its directory yields to the other, and does not take the
// lease back.
func TestHubBehindYields(t *testing.T) {
	w := newTrio(t)
	replica := w.domain.d.NewReplica("dc2", 50000)
	replica.ReplicateFrom(w.domain.d, 0)
	second := &domain{t: t, d: replica, server: adsim.StartTest(t, replica, adsim.ServerConfig{})}
	other := newHub(t, "other", second, w.engine.client("other")).start()
	eventually(t, "other hub stands by", func() bool { return other.publisher.Status().Holder == "hub" })
	w.domain.server.Down()
	w.hub.offset.Store(int64(20 * time.Minute))
	eventually(t, "hub is late", func() bool { s, _ := w.hub.mirror.State(); return s == mirror.Late })
	leads := func(n *node) bool { s := n.publisher.Status(); return s.Leading && s.LastError == nil }
	eventually(t, "other hub publishes",
		func() bool { return leads(other) && w.edge.client.Hub("corp").Name == "other" })
	eventually(t, "edge is fresh", func() bool { s, _ := w.edge.mirror.State(); return s == mirror.Fresh })
	if err := w.hub.publisher.Status().LastError; err != nil {
		t.Errorf("yielding is an error: %v", err)
	}
	w.keeps()
	if err := w.domain.server.Up(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "hub is fresh", func() bool { s, _ := w.hub.mirror.State(); return s == mirror.Fresh })
	began := other.publisher.Status().Sequence
	eventually(t, "ten more states", func() bool {
		if !leads(other) {
			t.Fatal("the other hub lost the lease")
		}
		return other.publisher.Status().Sequence > began+10
	})
	if s := w.hub.publisher.Status(); s.Leading || s.Holder != "other" {
		t.Errorf("publisher %+v", s)
	}
}

// TestHubBehindLeads checks that a hub whose directory is late keeps publishing unless a better hub waits.
func TestHubBehindLeads(t *testing.T) {
	w := newTrio(t)
	other := newHub(t, "other", w.domain, w.engine.client("other")).start()
	eventually(t, "other hub stands by", func() bool { return other.publisher.Status().Holder == "hub" })
	w.domain.server.Down()
	other.offset.Store(int64(20 * time.Minute))
	eventually(t, "other hub is late", func() bool { s, _ := other.mirror.State(); return s == mirror.Late })
	s, err := w.engine.admin().KeyValue(t.Context(), leaseBucket)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "no hub waits", func() bool { _, err := s.Get(t.Context(), "corp"+waitSuffix); return err != nil })
	w.hub.offset.Store(int64(20 * time.Minute))
	eventually(t, "hub is late", func() bool { s, _ := w.hub.mirror.State(); return s == mirror.Late })
	began := w.hub.publisher.Status().Sequence
	eventually(t, "ten more states", func() bool {
		if !w.hub.publisher.Status().Leading {
			t.Fatal("the hub gave up the lease")
		}
		return w.hub.publisher.Status().Sequence > began+10
	})
}
