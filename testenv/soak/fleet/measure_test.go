package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/stream"
	"rcpt-milter/testenv/adsim"
)

var (
	measureFlag   = flag.Bool("measure", false, "run the measurements too")
	objectsFlag   = flag.Int("objects", 10_000, "objects of a measurement; each has two addresses")
	followersFlag = flag.Int("followers", 100, "followers of a measurement")
)

// measured is a hub, and an engine in a daemon of its own. Nothing is between them.
type measured struct {
	*world
	engine, hub *host
}

// newMeasured starts a hub and waits until it has published all objects. It skips the test unless
// measurements are wanted.
func newMeasured(t *testing.T) *measured {
	t.Helper()
	if !*measureFlag {
		t.Skip("-measure is not set")
	}
	m := &measured{world: emptyWorld(t)}
	m.newControllers(1, *objectsFlag)
	at := m.port("127.0.0.1")
	m.engine = m.quiet("n1", fmt.Sprintf("domains: {corp.example: pass}\ndirectories: []\n"+
		"nats: {listen: 'inet:%[1]s', urls: ['tls://%[1]s'], dir: %[2]s/n1/nats}\n", at, m.dir))
	m.run(m.engine)
	file := m.enrol(m.engine, "hub1", "--hub", "--directory", "corp")
	s := m.servers[0]
	m.hub = m.quiet("hub1", m.rules()+fmt.Sprintf(`directories:
  - name: corp
    urls: [%s]
    bind: {dn: %q, password_file: %[3]s/hub1/password}
    tls: {ca_file: %[3]s/hub1/ca}
    notify: true
publish: {stream: {urls: ['tls://%[4]s'], credentials_file: %[5]s, tls: {ca_file: %[5]s}}}
`, s.URL(), s.BindDN(), m.dir, at, file))
	m.hub.write("password", s.Password()+"\n")
	m.hub.write("ca", string(s.CA()))
	m.engine.write("address", at)
	began := time.Now()
	m.run(m.hub)
	m.awaitFresh(m.hub)
	t.Logf("hub: %d addresses read in %.1f s, %s", 2**objectsFlag, time.Since(began).Seconds(), m.hub.usage())
	m.must(await(t.Context(), measurePatience, func(ctx context.Context) error {
		m.wait(statusPause)
		s, err := m.hub.status(ctx)
		if err == nil && (len(s.Publish) == 0 || s.Publish[0].Sequence == 0 || s.Publish[0].Pending > 0) {
			err = fmt.Errorf("not published: %+v", s.Publish)
		}
		return err
	}))
	t.Logf("hub: %d objects published %.1f s after its start, %s", *objectsFlag, time.Since(began).Seconds(),
		m.hub.usage())
	t.Logf("engine: %.1f MB of files, %s", m.engine.disk("nats"), m.engine.usage())
	return m
}

// measurePatience limits each wait of a measurement. A status costs processor time, so there is a
// pause between two.
const (
	measurePatience = 20 * time.Minute
	statusPause     = 200 * time.Millisecond
)

// rules are the rules of the fleet under test with the default times.
func (m *measured) rules() string {
	return "domains: {corp.example: enforce}\nremoval_grace: 0s\nconfirm: {enabled: false}\n"
}

// quiet returns a host that does not log each answer.
func (m *measured) quiet(name, configuration string) *host {
	m.t.Helper()
	h := newDaemon(m.t, m.dir, name, configuration)
	text, err := os.ReadFile(filepath.Join(h.dir, "config.yaml"))
	m.must(err)
	h.write("config.yaml", strings.Replace(string(text), "level: debug", "level: warn", 1))
	return h
}

// follow starts an edge, and does not wait for it.
func (m *measured) follow(name string) *host {
	m.t.Helper()
	file := m.enrol(m.engine, name, "--directory", "corp")
	h := m.quiet(name, m.rules()+fmt.Sprintf(`directories:
  - name: corp
    stream: {urls: ['tls://%s'], credentials_file: %s, tls: {ca_file: %[2]s}}
`, m.engineAddress(0), file))
	m.run(h)
	return h
}

// awaitFresh waits until a host has all addresses.
func (m *measured) awaitFresh(h *host) {
	m.t.Helper()
	m.must(await(m.t.Context(), measurePatience, func(ctx context.Context) error {
		m.wait(statusPause)
		s, err := h.status(ctx)
		if err == nil && (s.State != control.Fresh || s.Addresses < int64(2**objectsFlag)) {
			err = fmt.Errorf("%s is %s with %d addresses", h.name, s.State, s.Addresses)
		}
		return err
	}))
}

// usage returns the processor time that the process has used, and its resident memory.
func (h *host) usage() string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid()))
	if err != nil {
		h.t.Fatal(err)
	}
	mb := func(key string) int {
		_, rest, _ := strings.Cut(string(text), key+":")
		kb, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			h.t.Fatal(err)
		}
		return kb >> 10
	}
	return fmt.Sprintf("%.1f s of processor time, %d MiB resident (%d without mapped files), %d at most",
		h.processor().Seconds(), mb("VmRSS"), mb("RssAnon"), mb("VmHWM"))
}

// processor returns the processor time that the process has used.
func (h *host) processor() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid()))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, in 1/100 s
		n, err := strconv.Atoi(f)
		if err != nil {
			h.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// disk returns the size of the files of a directory, in MB.
func (h *host) disk(name string) float64 {
	size := int64(0)
	err := filepath.WalkDir(filepath.Join(h.dir, name), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // files come and go
		}
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return float64(size) / 1e6
}

// TestMeasureChange prints how long a change in the directory takes to the answers of the hub and of
// an edge.
func TestMeasureChange(t *testing.T) {
	m := newMeasured(t)
	edge := m.follow("mx1")
	m.awaitFresh(edge)
	m.change(0)
	m.until(m.hub, "change0@corp.example") // the notification may begin after the first poll
	m.until(edge, "change0@corp.example")
	var atHub, atEdge, over []time.Duration
	for i := 1; i <= 100; i++ {
		m.wait(rand.N(time.Second)) // after a notification, the hub waits for more of them
		var hub, far time.Duration
		began := time.Now()
		m.change(i)
		address := fmt.Sprintf("change%d@corp.example", i)
		var both sync.WaitGroup
		both.Go(func() { m.until(m.hub, address); hub = time.Since(began) })
		both.Go(func() { m.until(edge, address); far = time.Since(began) })
		both.Wait()
		atHub, atEdge, over = append(atHub, hub), append(atEdge, far), append(over, far-hub)
	}
	t.Logf("change to the answer of the hub: %s", figures(atHub))
	t.Logf("change to the answer of the edge: %s", figures(atEdge))
	t.Logf("edge after hub: %s", figures(over))
}

// change adds a user.
func (m *measured) change(i int) adsim.GUID {
	m.t.Helper()
	guid, err := m.domains[0].Add(adsim.User, fmt.Sprintf("CN=change%d,CN=Users,%s", i, base),
		proxies(fmt.Sprintf("change%d@corp.example", i)))
	m.must(err)
	return guid
}

// until asks a host until it accepts an address.
func (m *measured) until(h *host, address string) {
	s, err := openSession(m.t.Context(), h)
	if err != nil {
		m.t.Error(err)
		return
	}
	defer s.Close()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); m.wait(time.Millisecond) {
		reply, err := s.ask(address)
		if err != nil {
			m.t.Error(err)
			return
		}
		if reply == accepted {
			return
		}
	}
	m.t.Errorf("%s does not accept %s", h.name, address)
}

func figures(list []time.Duration) string {
	slices.Sort(list)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("median %.1f ms, 95th of 100 %.1f ms, worst %.1f ms", ms(list[len(list)/2]),
		ms(list[len(list)*95/100]), ms(list[len(list)-1]))
}

// TestMeasureNewEdge prints how long a new edge takes until it answers, and what everything needs.
func TestMeasureNewEdge(t *testing.T) {
	m := newMeasured(t)
	began := time.Now()
	edge := m.follow("mx1")
	m.awaitFresh(edge)
	t.Logf("new edge: ready after %.1f s, %s, %.1f MB of files", time.Since(began).Seconds(), edge.usage(),
		edge.disk("store"))
	t.Logf("engine then: %s", m.engine.usage())
	edge.kill()
	began = time.Now()
	edge.start()
	m.awaitFresh(edge)
	t.Logf("the edge after a restart: ready after %.1f s, %s", time.Since(began).Seconds(), edge.usage())
	m.hub.kill()
	m.hub.start()
	m.awaitFresh(m.hub)
	t.Logf("the hub after a restart: %s", m.hub.usage())
}

// TestMeasureFollowers prints how long a change takes to the last of many followers, and the processor
// time of hub and engine. Followers have no index: they run in the process of the test.
func TestMeasureFollowers(t *testing.T) {
	m := newMeasured(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var clients []*stream.Client
	defer func() { // a connection that is closed first is an error for its follower
		cancel()
		running.Wait()
		for _, c := range clients {
			c.Close()
		}
	}()
	f := &followers{m: m, seen: make(chan adsim.GUID, 1<<20)}
	began := time.Now()
	var ready sync.WaitGroup
	for i := range *followersFlag {
		client := f.client(fmt.Sprintf("edge%d", i+1))
		clients = append(clients, client)
		ready.Add(1)
		running.Go(func() { f.run(ctx, client, sync.OnceFunc(ready.Done)) })
	}
	ready.Wait()
	t.Logf("%d followers have read %d objects %.1f s after the first was enrolled", *followersFlag, *objectsFlag,
		time.Since(began).Seconds())
	m.use("at rest", 20*time.Second, func() { m.wait(20 * time.Second) })
	var last []time.Duration
	for i := range 100 {
		began := time.Now()
		f.await(m.change(i))
		last = append(last, time.Since(began))
	}
	t.Logf("change to the last of %d followers: %s", *followersFlag, figures(last))
	const seconds, rate = 20, 100
	var end time.Duration
	m.use(fmt.Sprintf("at %d changes a second", rate), seconds*time.Second, func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		var guid adsim.GUID
		for i := range seconds * rate {
			<-tick.C
			guid = m.change(1000 + i)
		}
		began := time.Now()
		f.await(guid)
		end = time.Since(began)
	})
	t.Logf("the last follower has the last change after %.1f ms", float64(end.Microseconds())/1000)
	t.Logf("engine: %s; hub: %s", m.engine.usage(), m.hub.usage())
}

// use prints the processor time of engine and hub during do.
func (m *measured) use(when string, nominal time.Duration, do func()) {
	engine, hub, began := m.engine.processor(), m.hub.processor(), time.Now()
	do()
	took := time.Since(began)
	share := func(used time.Duration) float64 { return 100 * used.Seconds() / took.Seconds() }
	m.t.Logf("%s, %.1f s of %.0f s: engine %.1f %% of a processor, hub %.1f %%", when, took.Seconds(),
		nominal.Seconds(), share(m.engine.processor()-engine), share(m.hub.processor()-hub))
}

// followers read the stream as edges do.
type followers struct {
	m    *measured
	seen chan adsim.GUID // each object, once by each follower
}

// client enrols a follower and connects it.
func (f *followers) client(name string) *stream.Client {
	f.m.t.Helper()
	made, err := control.NewClient(filepath.Join(f.m.engine.dir, "control.sock")).AddMember(f.m.t.Context(),
		control.MemberQuery{Name: name, Role: control.RoleEdge, Directories: []string{"corp"}})
	f.m.must(err)
	file := filepath.Join(f.m.dir, name+".enrol")
	f.m.must(os.WriteFile(file, []byte(made.Content), 0o600))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(made.Content))
	client, err := stream.Connect(stream.Config{URLs: []string{"tls://" + f.m.engineAddress(0)}, Name: name,
		CredentialsFile: file, TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: roots}, nil },
		Log: slog.New(slog.DiscardHandler)})
	f.m.must(err)
	return client
}

func (f *followers) source(client *stream.Client) *stream.Source {
	source, err := client.Source("corp", stream.SourceOptions{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.m.t.Error(err) // no option is wrong
	}
	return source
}

// run reads everything, calls ready, and then reads each change, until ctx ends.
func (f *followers) run(ctx context.Context, client *stream.Client, ready func()) {
	source, watcher := f.source(client), f.source(client)
	defer source.Close()
	defer watcher.Close()
	since := uint64(0)
	read := func() error {
		first := since == 0
		err := source.Read(ctx, since, func(page []directory.Object) error {
			for _, o := range page {
				if !first {
					f.seen <- adsim.GUID(o.GUID)
				}
			}
			return nil
		})
		if _, sequence, ok := source.Digest(); err == nil && ok {
			since = sequence
		}
		return err
	}
	wake := make(chan struct{}, 1)
	watching := make(chan error, 1)
	go func() {
		changed := func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
		watching <- watcher.Watch(ctx, changed, changed)
	}()
	for {
		select {
		case <-ctx.Done():
			<-watching
			return
		case err := <-watching:
			if ctx.Err() == nil {
				f.m.t.Errorf("a follower: %v", err)
			}
			ready()
			return
		case <-wake:
		}
		before := since
		if err := read(); err != nil && ctx.Err() == nil {
			f.m.t.Errorf("a follower: %v", err)
		}
		if before == 0 && since != 0 {
			ready()
		}
	}
}

// await waits until each follower has read a change.
func (f *followers) await(guid adsim.GUID) {
	f.m.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for n := 0; n < *followersFlag; {
		select {
		case seen := <-f.seen:
			if seen == guid {
				n++
			}
		case <-timeout.C:
			f.m.t.Fatalf("%d of %d followers have the change", n, *followersFlag)
		}
	}
}
