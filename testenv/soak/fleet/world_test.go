package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/testenv"
	"rcpt-milter/testenv/adsim"
)

// Times of the fleet. They are short, so that outages of seconds have every effect of long ones. A
// change needs at most maxReplication to reach the other domain controller.
const (
	poll           = 500 * time.Millisecond
	lateAfter      = 4 * time.Second
	staleAfter     = 8 * time.Second
	replicationLag = 8 * time.Second
	maxReplication = 5 * time.Second
	patience       = 2 * time.Minute // in which a healthy fleet does everything, on a busy machine
)

// Numbers of the hosts.
const (
	controllers = 2
	engines     = 3
	hubs        = 2
	edges       = 2
)

// people is the number of users at the beginning.
const people = 150

// rules are common to hubs and edges.
const rules = `domains: {corp.example: enforce}
removal_grace: 0s
confirm: {enabled: false}
late_after: 4s
stale_after: 8s
`

// world is the fleet, its network, and what is known of the directory.
type world struct {
	t     *testing.T
	dir   string
	began time.Time

	domains []*adsim.Directory // of the controllers
	servers []*adsim.Server
	engines []*host
	hubs    []*host
	edges   []*host
	links   []link
	truth   *truth

	mu      sync.Mutex // guards the fields below
	notes   []string
	faults  map[string]bool // that last
	wrong   []string
	markers int
	stats   map[string]*recoveries
}

// link is the network between two hosts. Each direction in which connections are opened has a proxy.
type link struct {
	between [2]string
	proxies []*testenv.Proxy
}

func (l link) String() string { return l.between[0] + "–" + l.between[1] }

// emptyWorld is a place for a fleet.
func emptyWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleet") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() && !*keepFlag {
			os.RemoveAll(dir)
		} else {
			t.Logf("logs and configurations are in %s", dir)
		}
	})
	return &world{t: t, dir: dir, began: time.Now(), faults: map[string]bool{}, stats: map[string]*recoveries{}}
}

// newWorld starts a fleet.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := emptyWorld(t)
	w.newControllers(controllers, people)
	w.truth = newTruth(w.domains)
	switch *engineFlag {
	case "embedded":
		w.newEmbedded()
	case "external":
		w.newExternal()
	default:
		t.Fatalf("-engine %s: expected embedded or external", *engineFlag)
	}
	for i := range hubs {
		w.hubs = append(w.hubs, w.newHub(i))
	}
	for i := range edges {
		w.edges = append(w.edges, w.newEdge(i))
	}
	for _, h := range slices.Concat(w.hubs, w.edges) {
		w.run(h)
	}
	return w
}

// run starts a host for the rest of the test.
func (w *world) run(h *host) {
	w.t.Helper()
	h.start()
	w.t.Cleanup(h.kill)
}

// newControllers makes domain controllers with the same users. Each user has two addresses.
func (w *world) newControllers(controllers, people int) {
	w.t.Helper()
	first := adsim.NewDirectory(adsim.DirectoryConfig{RecycleBin: true})
	w.domains = []*adsim.Directory{first}
	for i := range people {
		if _, err := first.Add(adsim.User, fmt.Sprintf("CN=p%d,CN=Users,%s", i, base),
			proxies(fmt.Sprintf("p%d@corp.example", i), fmt.Sprintf("alias%d@corp.example", i))); err != nil {
			w.t.Fatal(err)
		}
	}
	for i := 1; i < controllers; i++ {
		w.domains = append(w.domains, first.NewReplica(fmt.Sprint("dc", i+1), uint64(100_000*i)))
	}
	for _, d := range w.domains {
		w.servers = append(w.servers, adsim.StartTest(w.t, d, adsim.ServerConfig{}))
	}
}

const base = "DC=corp,DC=example"

func proxies(addresses ...string) adsim.Attrs {
	attrs := adsim.Attrs{}
	for _, a := range addresses {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], "smtp:"+a)
	}
	return attrs
}

// connect makes the way from one host to another one, and returns the address of its near end.
func (w *world) connect(from, to, target string) string {
	w.t.Helper()
	p, err := testenv.NewProxy(target)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-ended })
	pair := [2]string{min(from, to), max(from, to)}
	i := slices.IndexFunc(w.links, func(l link) bool { return l.between == pair })
	if i < 0 {
		w.links = append(w.links, link{between: pair})
		i = len(w.links) - 1
	}
	w.links[i].proxies = append(w.links[i].proxies, p)
	return p.Addr()
}

// engineName returns the name of an engine.
func engineName(i int) string { return fmt.Sprintf("n%d", i+1) }

// port is a port of an address that is free now.
func (w *world) port(ip string) string {
	w.t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// nodes are the addresses of a cluster of engines. Engines tell each other their ports, and take the
// address from the connection, which is that of a proxy. Each engine listens for the others on an
// address of its own, so what they are told leads nowhere and no connection avoids the proxies.
type nodes struct {
	clients []string   // for hubs and edges
	routes  [][]string // of each engine, to the others
	cluster []string   // where each engine listens for the others
}

func (w *world) newNodes() nodes {
	var n nodes
	for i := range engines {
		n.clients = append(n.clients, w.port("127.0.0.1"))
		n.cluster = append(n.cluster, w.port(fmt.Sprintf("127.0.1.%d", i+1)))
	}
	for from := range engines {
		var routes []string
		for to := range engines {
			if from != to {
				routes = append(routes, w.connect(engineName(from), engineName(to), n.cluster[to]))
			}
		}
		n.routes = append(n.routes, routes)
	}
	return n
}

// urls returns a list of URLs in YAML.
func urls(scheme string, addresses []string) string {
	return "[" + scheme + "://" + strings.Join(addresses, ", "+scheme+"://") + "]"
}

// stream returns the YAML of a stream for a hub or an edge.
func (w *world) stream(h string) string {
	var list []string
	for i := range engines {
		list = append(list, w.connect(h, engineName(i), w.engineAddress(i)))
	}
	file := filepath.Join(w.dir, h+".enrol")
	if *engineFlag == "external" {
		return fmt.Sprintf("{urls: %s, credentials_file: %s}", urls("nats", list), file)
	}
	return fmt.Sprintf("{urls: %s, credentials_file: %s, tls: {ca_file: %[2]s}}", urls("tls", list), file)
}

// engineAddress returns where an engine listens for hubs and edges.
func (w *world) engineAddress(i int) string {
	text, err := os.ReadFile(filepath.Join(w.dir, engineName(i), "address"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *world) newHub(i int) *host {
	w.t.Helper()
	name := fmt.Sprintf("hub%d", i+1)
	var list []string // its own controller first
	for j := range controllers {
		at := (i + j) % controllers
		_, address, _ := strings.Cut(w.servers[at].URL(), "//")
		list = append(list, w.connect(name, fmt.Sprintf("dc%d", at+1), address))
	}
	var ca []byte
	for _, s := range w.servers {
		ca = append(ca, s.CA()...)
	}
	s := w.servers[0]
	h := newDaemon(w.t, w.dir, name, rules+fmt.Sprintf(`directories:
  - name: corp
    urls: %s
    bind: {dn: %q, password_file: %[3]s/password}
    tls: {ca_file: %[3]s/ca}
    poll: %[4]s
    notify: true
    replication_lag: %[5]s
    removal_guard: {max: 0}
publish: {stream: %[6]s}
`, urls("ldaps", list), s.BindDN(), filepath.Join(w.dir, name), poll, replicationLag, w.stream(name)))
	h.write("password", s.Password()+"\n")
	h.write("ca", string(ca))
	return h
}

func (w *world) newEdge(i int) *host {
	w.t.Helper()
	name := fmt.Sprintf("mx%d", i+1)
	return newDaemon(w.t, w.dir, name, rules+fmt.Sprintf(`directories:
  - name: corp
    stream: %s
    poll: %s
    replication_lag: %s
    removal_guard: {max: 0}
`, w.stream(name), poll, replicationLag))
}

// note writes a line of the story of the run.
func (w *world) note(format string, args ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	line := fmt.Sprintf("%7.1f s  ", time.Since(w.began).Seconds()) + fmt.Sprintf(format, args...)
	w.notes = append(w.notes, line)
	w.t.Log(line)
}

// maxWrong limits the wrong answers that are printed.
const maxWrong = 20

// fail records a wrong answer with all that may explain it.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	var lasting []string
	for f := range w.faults {
		lasting = append(lasting, f)
	}
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	count := len(w.wrong)
	w.mu.Unlock()
	if count <= maxWrong {
		w.note("WRONG: %s; faults: %v", fmt.Sprintf(format, args...), lasting)
	}
}

// report ends the run: it fails the test for wrong answers, and says how to run it again.
func (w *world) report() {
	w.summarize()
	w.note("%d wrong answers", len(w.wrong))
	if len(w.wrong) > 0 {
		w.t.Errorf("%d wrong answers", len(w.wrong))
	}
	if w.t.Failed() {
		w.t.Logf("to run it again: go test ./testenv/soak/fleet -run '^TestRandomFleet$' -count=1 -v -timeout %v "+
			"-engine %s -seed %d -duration %v", *durationFlag+10*time.Minute, *engineFlag, *seedFlag, *durationFlag)
	}
}

// awaitFollowing waits until each edge accepts an address that is created now. It fails the test if
// that takes too long.
func (w *world) awaitFollowing(after string) {
	w.t.Helper()
	w.mu.Lock()
	w.markers++
	marker := fmt.Sprintf("marker%d@corp.example", w.markers)
	w.mu.Unlock()
	began := time.Now()
	w.truth.change(0, "marker", func(d *adsim.Directory) error {
		_, err := d.Add(adsim.User, fmt.Sprintf("CN=%s,CN=Users,%s", strings.TrimSuffix(marker, "@corp.example"), base),
			proxies(marker))
		return err
	})
	w.truth.replicate() // either hub may publish
	took := make([]time.Duration, len(w.edges))
	errs := make([]error, len(w.edges))
	var all sync.WaitGroup
	for i, e := range w.edges {
		all.Go(func() {
			errs[i] = await(w.t.Context(), patience, func(ctx context.Context) error {
				reply, err := askOnce(ctx, e, marker)
				if err == nil && reply != accepted {
					err = errors.New(reply)
				}
				return err
			})
			took[i] = time.Since(began)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		w.note("after %s: %s is not accepted: %v\n%s", after, marker, err, w.states())
		w.t.Fatalf("after %s: no recovery", after)
	}
	w.recovered(after, took)
}

// states describes all daemons.
func (w *world) states() string {
	var b strings.Builder
	for _, h := range slices.Concat(w.hubs, w.edges, w.engines) {
		s, err := h.status(w.t.Context())
		fmt.Fprintf(&b, "%s: %v, digest %s", h.name, s.State, s.Digest)
		for _, d := range s.Directories {
			fmt.Fprintf(&b, ", %s of %s, error %q", d.State, d.DomainController, d.LastError)
			if d.Stream != nil {
				fmt.Fprintf(&b, ", stream %+v", *d.Stream)
			}
		}
		for _, p := range s.Publish {
			fmt.Fprintf(&b, ", leading %t, sequence %d, pending %d, withheld %d, error %q", p.Leading, p.Sequence,
				p.Pending, p.Withheld, p.LastError)
		}
		if s.Engine != nil {
			fmt.Fprintf(&b, ", engine ready %t, peers %d, error %q", s.Engine.Ready, s.Engine.Peers, s.Engine.LastError)
		}
		if err != nil {
			fmt.Fprintf(&b, ", %v", err)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// awaitEqual waits until all indexes are fresh and have the same digest and as many addresses as the
// directory.
func (w *world) awaitEqual() {
	w.t.Helper()
	began, want := time.Now(), w.truth.count()
	err := await(w.t.Context(), patience, func(ctx context.Context) error {
		var digests []string
		for _, h := range slices.Concat(w.hubs, w.edges) {
			s, err := h.status(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
			if s.State != "fresh" || s.Addresses != int64(want) {
				return fmt.Errorf("%s is %s and has %d addresses, the directory %d", h.name, s.State, s.Addresses, want)
			}
			digests = append(digests, s.Digest)
		}
		if slices.Sort(digests); len(slices.Compact(digests)) != 1 {
			return fmt.Errorf("digests %v", digests)
		}
		return nil
	})
	if err != nil {
		w.note("not equal: %v\n%s", err, w.states())
		w.t.Errorf("the indexes are not equal at the end: %v", err)
		return
	}
	w.note("all indexes are fresh and equal, %d addresses, after %.1f s", want, time.Since(began).Seconds())
}
