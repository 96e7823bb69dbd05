package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/internal/files"
)

// freePort returns a loopback address with a port that is not in use.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func testConfig(t *testing.T, dir string) Config {
	at := freePort(t)
	return Config{Listen: at, URLs: []string{"tls://" + at}, Dir: dir, MaxDisk: 1 << 30, MaxMemory: 1 << 20,
		Log: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, c Config) *Engine {
	t.Helper()
	e, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	return e
}

// enrol adds a member and returns its enrolment file.
func enrol(t *testing.T, e *Engine, name string, role Role, directories ...string) string {
	t.Helper()
	data, err := e.Add(t.Context(), name, role, directories)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// dial connects with an enrolment file, which it uses as credentials and as CA file.
func dial(t *testing.T, e *Engine, file string, more ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(e.config.URLs[0], append(more, key, trusting(t, file), nats.NoReconnect(),
		nats.Timeout(10*time.Second))...)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

// trusting verifies the server with the certificates in a file.
func trusting(t *testing.T, file string) nats.Option {
	t.Helper()
	all, err := files.Certificates(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, cert := range all {
		pool.AddCert(cert)
	}
	return nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
}

// daemonJS returns a JetStream connection within this process.
func daemonJS(t *testing.T, e *Engine) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(e))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// TestMembersAreConfined checks that the server rejects everything that a member may not do, and permits the rest.
// Requests of a JetStream API have the subjects of the API of the server.
func TestMembersAreConfined(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	const both, none, hubs, edges = "hub edge", "", "hub", "edge"
	members := map[string]*confined{}
	for _, role := range []Role{Hub, Edge} {
		members[string(role)] = newConfined(t, e, "my"+string(role), role, "corp")
	}
	newConfined(t, e, "otherhub", Hub, "lab")
	_, js := daemonJS(t, e)
	waitFor(t, "the streams exist", func() bool {
		_, err := js.Stream(t.Context(), "RCPT_lab")
		return err == nil
	})
	for _, c := range []struct {
		name, subject string
		subscribe     bool
		allowed       string // roles
	}{
		{"read its stream", "$JS.API.STREAM.INFO.RCPT_corp", false, both},
		{"create a consumer of its stream", "$JS.API.CONSUMER.CREATE.RCPT_corp.c.rcpt.corp.o.>", false, both},
		{"create a nameless consumer of its stream", "$JS.API.CONSUMER.CREATE.RCPT_corp", false, both},
		{"read from a consumer of its stream", "$JS.API.CONSUMER.MSG.NEXT.RCPT_corp.c", false, both},
		{"delete a consumer of its stream", "$JS.API.CONSUMER.DELETE.RCPT_corp.c", false, both},
		{"read a message of its stream", "$JS.API.STREAM.MSG.GET.RCPT_corp", false, both},
		{"its own inbox", "_INBOX.my$ROLE.x", true, both},

		{"publish an object", "rcpt.corp.o.00112233445566778899aabbccddeeff", false, hubs},
		{"publish a state", "rcpt.corp.state", false, hubs},
		{"answer queries of its directory", "rcpt-find.corp", true, hubs},
		{"answer an edge", "_INBOX.mx2.x", false, hubs},
		{"write its lease", "$KV.RCPTLEASE.corp", false, hubs},
		{"ask for its lease", "$KV.RCPTLEASE.corp.wait", false, hubs},
		{"find the leases", "$JS.API.STREAM.INFO.KV_RCPTLEASE", false, hubs},
		{"read a lease", "$JS.API.STREAM.MSG.GET.KV_RCPTLEASE", false, hubs},
		{"find the reports", "$JS.API.STREAM.INFO.RCPTEDGES", false, hubs},
		{"read a report", "$JS.API.STREAM.MSG.GET.RCPTEDGES", false, hubs},

		{"report", "rcpt-edge.corp.my$ROLE", false, edges},
		{"query the hub", "rcpt-find.corp", false, edges},

		{"get a bare message of its stream", "$JS.API.DIRECT.GET.RCPT_corp", false, none},
		{"get a bare message of a subject", "$JS.API.DIRECT.GET.RCPT_corp.rcpt.corp.state", false, none},
		{"get a bare lease", "$JS.API.DIRECT.GET.KV_RCPTLEASE.$KV.RCPTLEASE.corp", false, none},
		{"publish to another directory", "rcpt.lab.o.00112233445566778899aabbccddeeff", false, none},
		{"publish a state of another directory", "rcpt.lab.state", false, none},
		{"publish another kind of message", "rcpt.corp.x", false, none},
		{"read another directory's stream", "$JS.API.STREAM.INFO.RCPT_lab", false, none},
		{"consume another directory's stream", "$JS.API.CONSUMER.CREATE.RCPT_lab.c", false, none},
		{"read from a consumer of another directory", "$JS.API.CONSUMER.MSG.NEXT.RCPT_lab.c", false, none},
		{"delete a consumer of another directory", "$JS.API.CONSUMER.DELETE.RCPT_lab.c", false, none},
		{"get a message of another directory's stream", "$JS.API.STREAM.MSG.GET.RCPT_lab", false, none},
		{"get a bare message of another directory's stream", "$JS.API.DIRECT.GET.RCPT_lab", false, none},
		{"query the hub of another directory", "rcpt-find.lab", false, none},
		{"answer queries of another directory", "rcpt-find.lab", true, none},
		{"write the lease of another directory", "$KV.RCPTLEASE.lab", false, none},
		{"ask for the lease of another directory", "$KV.RCPTLEASE.lab.wait", false, none},
		{"consume the leases", "$JS.API.CONSUMER.CREATE.KV_RCPTLEASE.c", false, none},
		{"consume the reports", "$JS.API.CONSUMER.CREATE.RCPTEDGES.c", false, none},
		{"write the members", "$KV." + bucket + ".mx2", false, none},
		{"find the members", "$JS.API.STREAM.INFO.KV_" + bucket, false, none},
		{"read the members", "$JS.API.DIRECT.GET.KV_" + bucket, false, none},
		{"create a stream", "$JS.API.STREAM.CREATE.OTHER", false, none},
		{"create its stream", "$JS.API.STREAM.CREATE.RCPT_corp", false, none},
		{"change its stream", "$JS.API.STREAM.UPDATE.RCPT_corp", false, none},
		{"create the stream of another directory", "$JS.API.STREAM.CREATE.RCPT_lab", false, none},
		{"change the stream of another directory", "$JS.API.STREAM.UPDATE.RCPT_lab", false, none},
		{"create the leases", "$JS.API.STREAM.CREATE.KV_RCPTLEASE", false, none},
		{"change the leases", "$JS.API.STREAM.UPDATE.KV_RCPTLEASE", false, none},
		{"create the reports", "$JS.API.STREAM.CREATE.RCPTEDGES", false, none},
		{"change the reports", "$JS.API.STREAM.UPDATE.RCPTEDGES", false, none},
		{"purge its stream", "$JS.API.STREAM.PURGE.RCPT_corp", false, none},
		{"delete its stream", "$JS.API.STREAM.DELETE.RCPT_corp", false, none},
		{"delete a message", "$JS.API.STREAM.MSG.DELETE.RCPT_corp", false, none},
		{"delete a lease", "$JS.API.STREAM.MSG.DELETE.KV_RCPTLEASE", false, none},
		{"purge the leases", "$JS.API.STREAM.PURGE.KV_RCPTLEASE", false, none},
		{"purge the reports", "$JS.API.STREAM.PURGE.RCPTEDGES", false, none},
		{"snapshot its stream", "$JS.API.STREAM.SNAPSHOT.RCPT_corp", false, none},
		{"snapshot another stream", "$JS.API.STREAM.SNAPSHOT.RCPT_lab", false, none},
		{"restore a stream", "$JS.API.STREAM.RESTORE.RCPT_corp", false, none},
		{"move a leader", "$JS.API.STREAM.LEADER.STEPDOWN.RCPT_corp", false, none},
		{"remove a peer", "$JS.API.STREAM.PEER.REMOVE.RCPT_corp", false, none},
		{"move the leader of all", "$JS.API.META.LEADER.STEPDOWN", false, none},
		{"list streams", "$JS.API.STREAM.LIST", false, none},
		{"name streams", "$JS.API.STREAM.NAMES", false, none},
		{"list consumers", "$JS.API.CONSUMER.LIST.RCPT_corp", false, none},
		{"name consumers", "$JS.API.CONSUMER.NAMES.RCPT_corp", false, none},
		{"read about consumers", "$JS.API.CONSUMER.INFO.RCPT_lab.c", false, none},
		{"create a durable consumer", "$JS.API.CONSUMER.DURABLE.CREATE.RCPT_corp.d", false, none},
		{"pause a consumer", "$JS.API.CONSUMER.PAUSE.RCPT_corp.c", false, none},
		{"move a leader of consumers", "$JS.API.CONSUMER.LEADER.STEPDOWN.RCPT_corp.c", false, none},
		{"confirm the messages of others", "$JS.ACK.RCPT_lab.c.1.1.1.1.1", false, none},
		{"control the flow of others", "$JS.FC.RCPT_lab.c.x", false, none},
		{"read the usage of the account", "$JS.API.INFO", false, none},
		{"purge an account", "$JS.API.ACCOUNT.PURGE.$G", false, none},
		{"report as another edge", "rcpt-edge.corp.mx2", false, none},
		{"report about another directory", "rcpt-edge.lab.my$ROLE", false, none},
		{"system requests", "$SYS.REQ.SERVER.PING", false, none},
		{"another host's inbox", "_INBOX.mx2.x", true, none},
		{"all inboxes", "_INBOX.>", true, none},
		{"everything", ">", true, none},
		{"its objects on the wire", "rcpt.corp.o.>", true, none},
		{"objects of another directory on the wire", "rcpt.lab.o.>", true, none},
		{"leases on the wire", "$KV.>", true, none},
		{"reports on the wire", "rcpt-edge.>", true, none},
		{"requests on the wire", "$JS.API.>", true, none},
		{"events of streams", "$JS.EVENT.>", true, none},
		{"system events", "$SYS.>", true, none},
	} {
		for role, m := range members {
			t.Run(role+" "+c.name, func(t *testing.T) {
				subject := strings.ReplaceAll(c.subject, "$ROLE", role)
				err := m.try(subject, c.subscribe)
				if want := strings.Contains(c.allowed, role); (err == nil) != want {
					t.Errorf("%s: the server says %v, want allowed: %t", subject, err, want)
				}
			})
		}
	}
}

// confined is a connection of a member.
type confined struct {
	t        *testing.T
	nc       *nats.Conn
	rejected chan error
}

func newConfined(t *testing.T, e *Engine, name string, role Role, directories ...string) *confined {
	t.Helper()
	m := &confined{t: t, rejected: make(chan error, 1)}
	var err error
	m.nc, err = dial(t, e, enrol(t, e, name, role, directories...), nats.CustomInboxPrefix("_INBOX."+name),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { m.rejected <- err }))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// try returns why the server rejects a subject. The server reports that before it answers the flush, and the
// library passes it on in a goroutine, in order, so a subject that is always rejected ends the wait.
func (m *confined) try(subject string, subscribe bool) error {
	m.t.Helper()
	if subscribe {
		sub, err := m.nc.SubscribeSync(subject)
		if err != nil {
			m.t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	} else if err := m.nc.Publish(subject, nil); err != nil {
		m.t.Fatal(err)
	}
	const always = "always-rejected"
	if err := m.nc.Publish(always, nil); err != nil {
		m.t.Fatal(err)
	}
	first := m.await()
	if strings.Contains(first.Error(), always) {
		return nil
	}
	if last := m.await(); !strings.Contains(last.Error(), always) {
		m.t.Errorf("the server says %v", last)
	}
	return first
}

// await returns the next rejection.
func (m *confined) await() error {
	m.t.Helper()
	select {
	case err := <-m.rejected:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			m.t.Errorf("the server says %v", err)
		}
		return err
	case <-time.After(30 * time.Second):
		m.t.Fatal("the server rejects nothing")
		return nil
	}
}

// TestCredentials checks that connections without the key of a member are rejected.
func TestCredentials(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	file := enrol(t, e, "mx1", Edge, "corp")
	other := start(t, testConfig(t, t.TempDir()))
	foreign := enrol(t, other, "mx1", Edge, "corp")
	key, err := nats.NkeyOptionFromSeed(foreign)
	if err != nil {
		t.Fatal(err)
	}
	public := func(o *nats.Options) error { // the public key of a member, with a signature by another key
		o.Nkey = e.Members()[0].Key
		return nil
	}
	for _, c := range []struct {
		name    string
		options []nats.Option
	}{
		{"none", nil},
		{"a password", []nats.Option{nats.UserInfo("mx1", "mx1")}},
		{"the name of this daemon", []nats.Option{nats.UserInfo("this daemon", "")}},
		{"of another engine", []nats.Option{key}},
		{"a public key only", []nats.Option{key, public}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := nats.Connect(e.config.URLs[0], append(c.options, trusting(t, file), nats.NoReconnect())...)
			if err == nil {
				nc.Close()
			}
			if !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("Connect: %v, want %v", err, nats.ErrAuthorization)
			}
		})
	}
	t.Run("without TLS", func(t *testing.T) {
		nc, err := nats.Connect("nats://"+e.config.Listen, nats.NoReconnect(),
			nats.TLSHandshakeFirst(), trusting(t, foreign))
		if err == nil {
			nc.Close()
			t.Error("a foreign authority is trusted")
		}
	})
	if nc, err := dial(t, e, file); err != nil || !nc.IsConnected() {
		t.Fatalf("the member itself: %v", err)
	}
}

// TestRemoved checks that a removed member is disconnected at once and cannot reconnect. The same holds for old
// credentials after new ones were issued.
func TestRemoved(t *testing.T) {
	e := start(t, testConfig(t, t.TempDir()))
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"removed", func() error { return e.Remove(t.Context(), "mx1") }},
		{"enrolled again", func() error {
			_, err := e.Add(t.Context(), "mx1", Edge, []string{"corp"})
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := enrol(t, e, "mx1", Edge, "corp")
			closed := make(chan struct{})
			if _, err := dial(t, e, file, nats.ClosedHandler(func(*nats.Conn) { close(closed) })); err != nil {
				t.Fatal(err)
			}
			if m := e.Members(); len(m) != 1 || !m[0].Connected || m[0].Remote == "" {
				t.Fatalf("members %+v", m)
			}
			began := time.Now()
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-closed:
				t.Logf("disconnected after %v", time.Since(began))
			case <-time.After(5 * time.Second):
				t.Fatal("still connected")
			}
			if _, err := dial(t, e, file); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("connects again: %v", err)
			}
		})
	}
	if err := e.Remove(t.Context(), "mx9"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Remove of an unknown member: %v", err)
	}
}

// TestRestart checks that members, authority and streams survive a restart.
func TestRestart(t *testing.T) {
	c := testConfig(t, t.TempDir())
	e, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	file := enrol(t, e, "mx1", Edge, "corp")
	_, js := daemonJS(t, e)
	own := jetstream.StreamConfig{Name: "RCPT_corp", Subjects: []string{"rcpt.corp.>"}}
	if _, err := js.CreateStream(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "rcpt.corp.o.1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	e.Shutdown()
	e = start(t, c)
	if _, err := dial(t, e, file); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if s := e.Status(); !s.Ready || s.Streams != 1 || s.Members != 1 || s.Clients != 1 || s.LastError != "" {
		t.Errorf("status %+v", s)
	}
}

// TestBadDir checks the errors for a directory that cannot be used.
func TestBadDir(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    string
	}{
		{"a file in its place", func(t *testing.T, dir string) { put(t, dir, "x") },
			"cannot create the directory of the engine"},
		{"damaged members", func(t *testing.T, dir string) { put(t, filepath.Join(dir, membersFile), "{") },
			"the list of hubs and edges"},
		{"a damaged authority", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "ca.key"), "x")
			put(t, filepath.Join(dir, "ca.crt"), "x")
		}, "is damaged"},
		{"half an authority", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "ca.key"), "x") },
			"restore it"},
		{"streams that are a file", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "streams"), "x") },
			"cannot start the engine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "nats")
			c.prepare(t, dir)
			e, err := Start(t.Context(), testConfig(t, dir))
			if err == nil {
				e.Shutdown()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Start: %v, want %q", err, c.want)
			}
		})
	}
	t.Run("an address in use", func(t *testing.T) {
		config := testConfig(t, t.TempDir())
		l, err := net.Listen("tcp", config.Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if e, err := Start(t.Context(), config); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("Start: %v", err)
			if err == nil {
				e.Shutdown()
			}
		}
	})
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk checks that an engine at its disk limit rejects a write with an error and keeps its data.
func TestFullDisk(t *testing.T) {
	c := testConfig(t, t.TempDir())
	c.MaxDisk = 1 << 20
	e := start(t, c)
	_, js := daemonJS(t, e)
	one := jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}
	if _, err := js.CreateStream(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := range 100 {
		if _, err = js.Publish(t.Context(), fmt.Sprintf("s.%d", i), make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "resource") {
		t.Errorf("beyond max_disk: %v", err)
	}
	if s := e.Status(); s.Disk == 0 || s.Disk > 2*c.MaxDisk {
		t.Errorf("status %+v", s)
	}
}

// TestCertificates checks that the server certificate is renewed before it expires, and that the expiry of
// others is reported.
func TestCertificates(t *testing.T) {
	now := time.Now()
	c := testConfig(t, t.TempDir())
	c.Now = func() time.Time { return now }
	a, err := openAuthority(c)
	if err != nil {
		t.Fatal(err)
	}
	first := a.expires()
	now = first.Add(-renewBefore + time.Hour)
	a.renew(c.Log)
	if second := a.expires(); !second.After(first) {
		t.Errorf("expires %v, then %v", first, second)
	}
	c.URLs = append(c.URLs, "tls://mx1.example.com:4222")
	if a, err = openAuthority(c); err != nil {
		t.Fatal(err)
	}
	if err := a.current.Leaf.VerifyHostname("mx1.example.com"); err != nil {
		t.Errorf("a new host: %v", err)
	}
}

// waitFor polls a condition on other nodes, which send no notification.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("not within three minutes: " + what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestCluster checks that an edge enrolled at one node can connect to all nodes, that a node which was down
// learns of changes, and that a node without a certificate of the authority cannot join.
func TestCluster(t *testing.T) {
	first, configs := clusterConfigs(t)
	second := start(t, configs[1])
	third, err := Start(t.Context(), configs[2])
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all nodes are ready", func() bool {
		return first.Status().Ready && second.Status().Ready && third.Status().Ready
	})
	if got := first.Status().Peers; got != 2 {
		t.Errorf("%d peers, want 2", got)
	}
	file := enrol(t, first, "mx1", Edge, "corp")
	for _, e := range []*Engine{first, second, third} {
		waitFor(t, "mx1 is enrolled everywhere", func() bool { return len(e.Members()) == 1 })
		if _, err := dial(t, e, file); err != nil {
			t.Errorf("node %s: %v", e.config.Cluster.Node, err)
		}
	}
	third.Shutdown()
	if err := second.Remove(t.Context(), "mx1"); err != nil {
		t.Fatal(err)
	}
	enrol(t, second, "mx2", Edge, "corp")
	third = start(t, configs[2])
	waitFor(t, "the node learns what changed", func() bool {
		m := third.Members()
		return len(m) == 1 && m[0].Name == "mx2"
	})
	if _, err := dial(t, third, file); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a removed edge: %v", err)
	}
	stranger := testConfig(t, t.TempDir())
	stranger.Cluster = &Cluster{Node: "n4", Listen: freePort(t), Routes: configs[0].Cluster.Routes}
	fourth := start(t, stranger)
	if peers := fourth.Status().Peers; peers != 0 {
		t.Errorf("a stranger has %d peers", peers)
	}
}
