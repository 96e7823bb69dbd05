package mirror

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// world has a simulated domain controller, a store, and a mirror between them.
type world struct {
	t      *testing.T
	d      *adsim.Directory
	server *adsim.Server
	store  *store.Store
	dir    string // directory of the store
	mirror *Mirror
	config Config
	offset atomic.Int64 // offset of the clock
}

const people = "OU=People,DC=corp,DC=example"

func newWorld(t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	w := &world{t: t}
	w.d = adsim.NewDirectory(adsim.DirectoryConfig{Clock: w.now})
	w.server = adsim.StartTest(t, w.d, adsim.ServerConfig{MaxPageSize: 3})
	w.add(adsim.OU, people)
	w.add(adsim.OU, "OU=Left,DC=corp,DC=example")
	w.openStore(t.TempDir())
	w.config = Config{Name: "corp", Candidates: []Candidate{w.candidate(w.server)}, Poll: time.Minute,
		Full:   24 * time.Hour,
		Limits: Limits{LateAfter: 15 * time.Minute, StaleAfter: 4 * time.Hour}, ReplicationLag: 3 * time.Hour,
		Log: slog.New(slog.DiscardHandler), Now: w.now}
	if change != nil {
		change(w, &w.config)
	}
	w.restart()
	t.Cleanup(func() { w.mirror.Close() })
	return w
}

func (w *world) openStore(dir string) {
	w.t.Helper()
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	w.store, w.dir = s, dir
}

// restartAll ends the process and starts another one: it opens the store again and creates a new mirror.
func (w *world) restartAll() {
	w.t.Helper()
	w.mirror.Close()
	w.must(w.store.Close())
	w.openStore(w.dir)
	w.restart()
}

// restart creates a new mirror on the same store.
func (w *world) restart() {
	w.t.Helper()
	if w.mirror != nil {
		w.mirror.Close()
	}
	w.config.Store = w.store
	m, err := New(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mirror = m
}

func (w *world) candidate(s *adsim.Server) Candidate {
	w.t.Helper()
	ca, err := s.WriteCA(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	config := directory.Config{URL: s.URL(), BindDN: s.BindDN(), CAFile: ca, Timeout: 5 * time.Second,
		Password: func() ([]byte, error) { return []byte(s.Password()), nil }}
	return Candidate{Name: s.URL(), Dial: func(ctx context.Context) (Source,
		error) {
		return directory.Dial(ctx, config)
	}}
}

// now returns the time of the clock of the mirror and of the first controller.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func (w *world) advance(d time.Duration) { w.offset.Add(int64(d)) }

func (w *world) add(kind adsim.Kind, dn string, addresses ...string) adsim.GUID {
	w.t.Helper()
	attrs := adsim.Attrs{}
	for _, a := range addresses {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], "smtp:"+a)
	}
	guid, err := w.d.Add(kind, dn, attrs)
	if err != nil {
		w.t.Fatal(err)
	}
	return guid
}

func (w *world) user(name string, addresses ...string) adsim.GUID {
	w.t.Helper()
	return w.add(adsim.User, "CN="+name+","+people, addresses...)
}

func (w *world) set(guid adsim.GUID, addresses ...string) {
	w.t.Helper()
	for i, a := range addresses {
		addresses[i] = "smtp:" + a
	}
	w.must(w.d.Modify(guid, adsim.Set("proxyAddresses", addresses...)))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass runs a pass that must succeed and be of this kind.
func (w *world) pass(kind store.Kind) store.PassInfo {
	w.t.Helper()
	r := w.mirror.Pass(w.t.Context(), false)
	if r.Err != nil || r.Info.Kind != kind {
		w.t.Fatalf("%v pass (%s): %v, want a good %v pass", r.Info.Kind, w.mirror.Status().FullReason, r.Err, kind)
	}
	return r.Info
}

func (w *world) known() []string {
	w.t.Helper()
	list := []string{}
	w.must(w.store.Addresses(func(a address.Address, _ bool) error {
		list = append(list, a.String())
		return nil
	}))
	return list
}

func (w *world) knows(address string) bool { return slices.Contains(w.known(), address) }

func (w *world) wantKnown(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.known(); !slices.Equal(got, want) {
		w.t.Errorf("the index knows %q, want %q", got, want)
	}
}

// wantEqual compares the index with the simulated directory.
func (w *world) wantEqual() {
	w.t.Helper()
	w.wantKnown(slices.Collect(maps.Keys(w.d.Owners(w.config.Rules.Bases...)))...)
}

// fixedCanaries is Limits.Canaries with these addresses.
func fixedCanaries(all ...address.Address) func() []address.Address {
	return func() []address.Address { return all }
}
