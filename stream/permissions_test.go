package stream

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// guarded is an engine as a daemon runs it, with a hub and edges that authenticate with nkeys.
type guarded struct {
	t     *testing.T
	e     *engine
	users map[string]*server.NkeyUser
	seeds map[string]string // files
}

func newGuarded(t *testing.T) *guarded {
	g := &guarded{t: t, users: map[string]*server.NkeyUser{}, seeds: map[string]string{}}
	g.enrol("hub", HubRole, "corp")
	g.enrol("edge", EdgeRole, "corp")
	g.enrol("stranger", EdgeRole, "other")
	g.e = newEngine(t, func(o *server.Options) {
		o.ServerName = EngineName
		o.Nkeys = g.list()
		o.Users = []*server.User{{Username: "admin", Password: "admin"}}
	})
	s := Streams{JS: g.admin(), LeaseTTL: 2 * time.Second, Log: quiet()}
	if err := s.Ensure(t.Context(), "corp"); err != nil {
		t.Fatal(err)
	}
	return g
}

// admin returns a connection without restrictions.
func (g *guarded) admin() jetstream.JetStream {
	g.t.Helper()
	nc, err := nats.Connect(g.e.url(), nats.UserInfo("admin", "admin"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		g.t.Fatal(err)
	}
	return js
}

func (g *guarded) enrol(name string, role Role, directories ...string) {
	g.t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		g.t.Fatal(err)
	}
	seed, _ := pair.Seed()
	public, _ := pair.PublicKey()
	file := filepath.Join(g.t.TempDir(), name+".nk")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		g.t.Fatal(err)
	}
	p := Permissions(role, name, directories)
	g.seeds[name] = file
	g.users[name] = &server.NkeyUser{Nkey: public, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: p.Publish},
		Subscribe: &server.SubjectPermission{Allow: p.Subscribe}}}
}

func (g *guarded) list() (all []*server.NkeyUser) {
	for _, u := range g.users {
		all = append(all, u)
	}
	return all
}

func (g *guarded) client(name string) *Client {
	return g.e.client(name, func(c *Config) { c.CredentialsFile = g.seeds[name] })
}

// restart makes the engine load the current users.
func (g *guarded) restart() {
	g.e.stop()
	g.e.start()
}

func TestEnrolledHostsFollow(t *testing.T) {
	g, d := newGuarded(t), newDomain(t)
	d.fill(20)
	w := &trio{t: t, engine: g.e, domain: d}
	w.hub = newHub(t, "hub", d, g.client("hub")).start()
	w.edge = newEdge(t, "edge", g.client("edge")).start()
	equal(t, w.hub, w.edge)
	if err := w.edge.client.Report(t.Context(), "corp", EdgeReport{State: "fresh", DigestOK: true}); err != nil {
		t.Fatal(err)
	}
	list, err := w.hub.client.Edges(t.Context(), "corp")
	if err != nil || len(list) != 1 || list[0].Name != "edge" || list[0].State != "fresh" || list[0].Age > time.Minute {
		t.Fatalf("reports %+v, error %v", list, err)
	}

	key := g.users["edge"]
	delete(g.users, "edge")
	g.restart()
	eventually(t, "edge says why", func() bool {
		err := w.edge.mirror.Status().LastError
		return err != nil && strings.Contains(err.Error(), "rejected the credentials")
	})
	w.keeps()
	d.add("meanwhile", "meanwhile@corp.example")
	g.users["edge"] = key
	g.restart()
	w.still("restored")

	g.enrol("edge", EdgeRole, "corp") // with another key
	g.restart()
	w.edge.client.mu.Lock()
	w.edge.client.config.CredentialsFile = g.seeds["edge"]
	w.edge.client.mu.Unlock()
	w.still("rotated")
}

// TestEdgesAreConfined lists operations that the credentials of an edge must not permit.
func TestEdgesAreConfined(t *testing.T) {
	g, d := newGuarded(t), newDomain(t)
	d.fill(3)
	hub := newHub(t, "hub", d, g.client("hub")).start()
	eventually(t, "hub publishes", func() bool { return hub.publisher.Status().Sequence > 0 })
	request := func(nc *nats.Conn, subject, data string) error {
		denied := make(chan error, 1)
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case denied <- err:
			default:
			}
		})
		if err := nc.Publish(subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-denied:
			return err
		case <-time.After(soon):
			return nil
		}
	}
	corp := streamName("corp")
	for _, tt := range []struct{ who, what, subject, data string }{
		{"edge", "an object", "rcpt.corp.o.01000000000000000000000000000000", `{"v":1}`},
		{"edge", "a state", stateSubject("corp"), `{}`},
		{"edge", "the lease", "$KV." + leaseBucket + ".corp", `{}`},
		{"edge", "a claim to the lease", "$KV." + leaseBucket + ".corp" + waitSuffix, `{}`},
		{"edge", "the report of another edge", edgeSubject("corp", "other"), `{}`},
		{"edge", "the report for another directory", edgeSubject("other", "edge"), `{}`},
		{"edge", "deletion of the stream", "$JS.API.STREAM.DELETE." + corp, ``},
		{"edge", "purge of the stream", "$JS.API.STREAM.PURGE." + corp, ``},
		{"edge", "settings of the stream", "$JS.API.STREAM.UPDATE." + corp, `{}`},
		{"edge", "removal of a message", "$JS.API.STREAM.MSG.DELETE." + corp, `{"seq":1}`},
		{"edge", "list of streams", "$JS.API.STREAM.NAMES", ``},
		{"edge", "another directory", "$JS.API.STREAM.INFO." + streamName("other"), ``},
		{"edge", "reports of all edges", "$JS.API.STREAM.MSG.GET." + edgesStream, `{"last_by_subj":"rcpt-edge.corp.x"}`},
		{"edge", "an answer for another edge", inboxPrefix("other") + ".x", `{"found":true}`},
		{"stranger", "the stream of a directory that is not its own", "$JS.API.STREAM.INFO." + corp, ``},
		{"stranger", "a consumer of that stream", "$JS.API.CONSUMER.CREATE." + corp, `{}`},
		{"stranger", "queries to that hub", findSubject("corp"), `{}`},
	} {
		t.Run(tt.who+" "+tt.what, func(t *testing.T) {
			nc, _, err := g.client(tt.who).js(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := request(nc, tt.subject, tt.data); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("publishing to %s: %v", tt.subject, err)
			}
		})
	}
	for _, subject := range []string{">", "rcpt.>", inboxPrefix("hub") + ".>", findSubject("corp"), "_INBOX.>"} {
		t.Run("edge subscribes to "+subject, func(t *testing.T) {
			nc, _, err := g.client("edge").js(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			denied := make(chan error, 1)
			nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
			if _, err := nc.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-denied:
				if !errors.Is(err, nats.ErrPermissionViolation) {
					t.Error(err)
				}
			case <-time.After(soon):
				t.Error("allowed")
			}
		})
	}
}

// TestHubWaitsForEngine: at the engine of a daemon, a hub creates no stream, and says what is missing.
func TestHubWaitsForEngine(t *testing.T) {
	g, d := newGuarded(t), newDomain(t)
	d.fill(3)
	g.enrol("stray", HubRole, "other")
	g.restart()
	for _, tt := range []struct{ hub, missing, want string }{
		{"hub", streamName("corp"), errNotCreated.Error()},
		{"hub", leaseStream, errNotCreated.Error()},
		{"stray", "", "not enrolled for the directory"},
	} {
		t.Run(tt.hub+" without "+tt.missing, func(t *testing.T) {
			if tt.missing != "" {
				if err := g.admin().DeleteStream(t.Context(), tt.missing); err != nil {
					t.Fatal(err)
				}
			}
			hub := newHub(t, tt.hub, d, g.client(tt.hub)).start()
			eventually(t, "the hub says why", func() bool {
				err := hub.publisher.Status().LastError
				return err != nil && strings.Contains(err.Error(), tt.want)
			})
			if tt.missing == "" {
				return
			}
			streams := Streams{JS: g.admin(), LeaseTTL: 2 * time.Second, Log: quiet()}
			if err := streams.Ensure(t.Context(), "corp"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the hub publishes", func() bool { return hub.publisher.Status().Leading })
			hub.stop()
		})
	}
}

// TestHubCreatesAtOtherServer: at a NATS server that no daemon runs, a hub with the rights for it creates and
// corrects its streams.
func TestHubCreatesAtOtherServer(t *testing.T) {
	g, d := &guarded{t: t, users: map[string]*server.NkeyUser{}, seeds: map[string]string{}}, newDomain(t)
	d.fill(3)
	g.enrol("hub", HubRole, "corp")
	p := g.users["hub"].Permissions.Publish
	p.Allow = append(p.Allow, CreatePermissions([]string{"corp"})...)
	g.e = newEngine(t, func(o *server.Options) { o.Nkeys = g.list() })
	hub := newHub(t, "hub", d, g.client("hub")).start()
	eventually(t, "the hub publishes", func() bool { return hub.publisher.Status().Sequence > 0 })
}
