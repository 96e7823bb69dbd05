package simulated

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// lag is the replication lag of the mirrors.
const lag = 3 * time.Hour

// world is all there is: forests, and one store that mirrors them.
type world struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	forests []*forest
	store   *store.Store
	dir     string // of the store
	made    int    // names given
	oracle  oracle
	ops     int

	mu    sync.Mutex // guards what follows: servers call the clock
	clock time.Time
	disk  disk

	inPass  int
	step    int      // counts everything that happens
	steps   []string // since the last quiet point
	failure string
}

// forest is one directory: the controllers of a domain, and the mirror of it.
type forest struct {
	w           *world
	name        string
	domain      string
	base        string
	controllers []*controller
	knobs       knobs
	catalog     bool // the ports of the Global Catalog are read
	guard       mirror.Guard
	mirror      *mirror.Mirror
	promise     promise
	owesFull    string // why only a full pass can make the index equal; empty: it need not
	removals    []removal
	valid       map[string]time.Time // keys that every controller shows, since when
	setBack     bool                 // the clock was, since the last good pass
	read        readRules
	widenedStep int                 // when widenedKeys was computed
	widenedKeys map[string]bool     // see widened
	unfollowed  map[adsim.GUID]bool // objects that hide uSNChanged
}

// controller is one domain controller, and what is known of the truth there.
type controller struct {
	f         *forest
	d         *adsim.Directory
	server    *adsim.Server
	caFile    string
	down      bool
	hidden    []string
	withheld  bool
	snapshots []*adsim.Snapshot
	view      view

	truths       map[string]map[pair]bool // see truthUnder, by rules
	truthVersion uint64                   // of the directory from which truths were computed
}

// host is the name by which the mirror knows a controller.
func (c *controller) host() string { return c.d.HostName() }

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 0x50a4)), dir: t.TempDir(),
		clock: time.Date(2031, 5, 1, 8, 0, 0, 0, time.UTC)}
	w.openStore()
	t.Cleanup(func() { w.store.Close() })
	for i, name := range []string{"corp", "other"} {
		w.forests = append(w.forests, w.newForest(name, 3-2*i))
	}
	w.reload()
	return w
}

func (w *world) openStore() {
	w.t.Helper()
	// A process that another test starts may hold the lock for a moment, between fork and exec.
	s, err := store.Open(context.Background(), store.Config{Dir: w.dir, LockWait: 10 * time.Second, Now: w.now,
		MinFree: minFree, FreeSpace: w.freeSpace})
	if err != nil {
		w.t.Fatalf("seed %d: %v", w.seed, err)
	}
	w.store = s
}

func (w *world) newForest(name string, controllers int) *forest {
	w.t.Helper()
	f := &forest{w: w, name: name, domain: name + ".example", base: "DC=" + name + ",DC=example",
		guard: mirror.Guard{Window: 24 * time.Hour}, valid: map[string]time.Time{},
		unfollowed: map[adsim.GUID]bool{}}
	f.promise.init()
	first := adsim.NewDirectory(adsim.DirectoryConfig{Domain: f.domain, Clock: w.now, NewGUID: w.guid,
		RecycleBin:  w.rnd.IntN(2) == 0,
		OriginTimes: w.seed%2 == 1})
	f.furnish(first)
	for i := range controllers {
		d := first
		if i > 0 {
			d = first.NewReplica(fmt.Sprint("dc", i+1), uint64(100_000*i))
		}
		f.controllers = append(f.controllers, f.serve(d))
	}
	f.start()
	w.t.Cleanup(func() { f.mirror.Close() })
	for _, c := range f.controllers {
		c.view.init()
	}
	for _, c := range f.controllers {
		w.observe(c)
	}
	return f
}

// furnish makes the first objects of a domain. The anchors never change, so no set of bases is
// ever empty.
func (f *forest) furnish(d *adsim.Directory) {
	for _, ou := range []string{"OU=People", "OU=Sub,OU=People", "OU=Deep,OU=People", "OU=Left"} {
		f.must(d.Add(adsim.OU, ou+","+f.base, nil))
	}
	d.AddDomain("child") // which the ports of the Global Catalog show
	f.must(d.Add(adsim.OU, "OU=People,"+f.child(), nil))
	for i, parent := range []string{"OU=People,DC=child", "OU=People", "OU=Deep,OU=People", "OU=Left", "CN=Users"} {
		f.must(d.Add(adsim.User, fmt.Sprintf("CN=anchor%d,%s,%s", i, parent, f.base),
			adsim.Attrs{"proxyAddresses": {fmt.Sprintf("SMTP:anchor%d@%s", i, f.domain)},
				"mail": {fmt.Sprintf("anchor%d@%s", i, f.domain)}}))
	}
}

// child is the name of the other domain of the forest.
func (f *forest) child() string { return "DC=child," + f.base }

// inChild reports whether a name is one of the other domain, which the ports of the Global
// Catalog show.
func (f *forest) inChild(dn string) bool {
	return strings.HasSuffix(strings.ToLower(dn), strings.ToLower(","+f.child()))
}

func (f *forest) must(_ adsim.GUID, err error) {
	f.w.t.Helper()
	if err != nil {
		f.w.t.Fatal(err)
	}
}

func (f *forest) serve(d *adsim.Directory) *controller {
	t := f.w.t
	s := adsim.StartTest(t, d, adsim.ServerConfig{MaxPageSize: 3 + f.w.rnd.IntN(9), MaxValRange: 6 + f.w.rnd.IntN(3)})
	ca, err := s.WriteCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &controller{f: f, d: d, server: s, caFile: ca}
}

// start makes the mirror of a forest as it is set up now.
func (f *forest) start() {
	if f.mirror != nil {
		f.mirror.Close()
	}
	config := mirror.Config{Name: f.name, Rules: f.knobs.rules(), Store: f.w.store, Poll: time.Minute,
		Full: 24 * time.Hour, Guard: f.guard, ReplicationLag: lag,
		Limits: mirror.Limits{LateAfter: 15 * time.Minute, StaleAfter: staleAfter, HandoverLag: f.shared()},
		Log:    slog.New(slog.DiscardHandler), Now: f.w.now}
	config.Observe.Pass = func(r mirror.PassResult) {
		if r.Err == nil {
			f.w.committed(f, r.Info)
		}
	}
	for _, c := range f.controllers {
		config.Candidates = append(config.Candidates, c.candidate())
	}
	m, err := mirror.New(config)
	if err != nil {
		f.w.t.Fatal(err)
	}
	f.mirror = m
}

func (c *controller) candidate() mirror.Candidate {
	s := c.server
	config := directory.Config{URL: s.URL(), Dialer: s.DialCatalog, BindDN: s.BindDN(), CAFile: c.caFile,
		Timeout:  10 * time.Second,
		Password: func() ([]byte, error) { return []byte(s.Password()), nil }}
	candidate := mirror.Candidate{Name: s.URL(), View: mirror.ViewOfPort("636")}
	if c.f.catalog {
		config.URL, candidate.View = s.CatalogURL(), mirror.ViewOfPort("3269")
	}
	candidate.Dial = func(ctx context.Context) (mirror.Source, error) {
		conn, err := directory.Dial(ctx, config)
		if err != nil {
			return nil, err
		}
		return &spy{Source: conn, c: c}, nil
	}
	return candidate
}

// spy records for the model what a mirror requested and received.
type spy struct {
	mirror.Source
	c *controller
}

func (s *spy) Root(ctx context.Context) (directory.Root, error) {
	root, err := s.Source.Root(ctx)
	if err == nil {
		s.c.f.promise.begin(s.c, root)
	}
	return root, err
}

func (s *spy) Read(ctx context.Context, since uint64, page func([]directory.Object) error) error {
	return s.Source.Read(ctx, since, s.pages(page))
}

func (s *spy) ReadBelow(ctx context.Context, top directory.GUID, page func([]directory.Object) error) error {
	return s.Source.ReadBelow(ctx, top, s.pages(page))
}

// ReadObjects does not record what an incremental pass reads: mostly it only checks with some objects whether the
// account still sees what it saw, and applies none of them.
func (s *spy) ReadObjects(ctx context.Context, guids []directory.GUID, page func([]directory.Object) error) error {
	if running := s.c.f.mirror.Status().Running; running == nil || running.Kind == store.Full {
		page = s.pages(page)
	}
	return s.Source.ReadObjects(ctx, guids, page)
}

// pages records each page in the model after it was applied. The mirror may read changes between
// two pages of a full read, so pages notes the content of the page before it is applied.
func (s *spy) pages(page func([]directory.Object) error) func([]directory.Object) error {
	return func(objects []directory.Object) error {
		shown := make([]shownObject, len(objects))
		for i := range objects {
			shown[i] = s.c.shows(adsim.GUID(objects[i].GUID))
		}
		if err := page(objects); err != nil {
			return err
		}
		for _, object := range shown {
			s.c.f.promise.applied(object)
		}
		s.c.f.w.check("after a page")
		return nil
	}
}

// now is the simulated time.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// guid draws a GUID from the seed.
func (w *world) guid() (g adsim.GUID) {
	binary.BigEndian.PutUint64(g[:8], w.rnd.Uint64())
	binary.BigEndian.PutUint64(g[8:], w.rnd.Uint64())
	return g
}

// forest draws one; the first is the one in which more happens.
func (w *world) forest() *forest {
	if w.rnd.IntN(3) == 0 {
		return w.forests[1]
	}
	return w.forests[0]
}

// place draws a controller to write to: mostly the one that is followed.
func (w *world) place() *controller {
	f := w.forest()
	if c := f.promise.followed; c != nil && w.rnd.IntN(4) > 0 {
		return c
	}
	return pick(w.rnd, f.controllers)
}

// note writes down one step. Everything that happens is one.
func (w *world) note(format string, args ...any) {
	w.step++
	line := fmt.Sprintf("%5d %s  ", w.step, w.now().Format("01-02 15:04:05")) + fmt.Sprintf(format, args...)
	w.steps = append(w.steps, line)
	if *stepsFlag {
		w.t.Log(line)
	}
}

// fail notes the first thing that went wrong; servers call it too.
func (w *world) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf("step %d: ", w.step) + fmt.Sprintf(format, args...)
		w.steps = append(w.steps, "      FAILED: "+w.failure)
	}
}

func (w *world) stopOnFailure() {
	w.t.Helper()
	if w.failure != "" {
		w.t.FailNow()
	}
}

// report says how to come here again.
func (w *world) report() {
	if w.failure == "" && !w.t.Failed() {
		return
	}
	w.t.Errorf("%s\nsteps since the last quiet point:\n%s\nto see it again: go test ./testenv/soak/simulated -run "+
		"'^TestRandomLife$' -count=1 -seed %d -ops %d",
		w.failure, strings.Join(w.steps, "\n"), w.seed, w.ops+1)
}
