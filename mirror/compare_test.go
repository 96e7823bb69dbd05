package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// comparing returns a world whose mirror runs passes only on request.
func comparing(t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	return newWorld(t, func(w *world, c *Config) {
		c.Poll = time.Hour
		if change != nil {
			change(w, c)
		}
	})
}

// compare runs a comparison while Run is running, and returns the differences, one per line.
func (w *world) compare() ([]string, Comparison, error) {
	w.t.Helper()
	stop := w.run()
	defer stop()
	lines := []string{}
	result, err := w.mirror.Compare(w.t.Context(), func(int) {}, func(d Difference) error {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s index:%t directory:%t %s", d.Address, d.InIndex,
			d.InDirectory, d.Cause)))
		return nil
	})
	return lines, result, err
}

func (w *world) wantDifferences(want ...string) Comparison {
	w.t.Helper()
	got, result, err := w.compare()
	if err != nil {
		w.t.Fatal(err)
	}
	if want == nil {
		want = []string{}
	}
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("differences (-want +got):\n%s", d)
	}
	return result
}

// corrupt makes the store record objects that the directory has never shown.
func (w *world) corrupt(objects ...store.Object) {
	w.t.Helper()
	before := w.store.Directory("corp")
	at := decodeCursor(before.Cursor)
	p, err := w.store.Begin("corp", store.Incremental,
		store.Origin{Controller: at.Host, Database: at.database(), Started: time.Now()})
	w.must(err)
	defer p.Abort()
	_, err = p.Apply(objects)
	w.must(err)
	_, err = p.Commit(store.Outcome{Cursor: before.Cursor, Fingerprint: before.Fingerprint, Ended: time.Now()})
	w.must(err)
}

func owning(t *testing.T, guid adsim.GUID, addresses ...string) store.Object {
	o := store.Object{GUID: store.GUID(guid), DN: "CN=" + guid.String(), Class: "user"}
	for _, a := range addresses {
		o.Addresses = append(o.Addresses, store.Owned{Address: mustParse(t, a), Attribute: "mail"})
	}
	return o
}

func TestCompare(t *testing.T) {
	w := comparing(t, nil)
	ann := w.user("Ann", "ann@corp.example", "a.smith@corp.example")
	bob := w.user("Bob", "bob@corp.example", "team@corp.example")
	w.user("Cid", "cid@corp.example", "team@corp.example")
	w.add(adsim.Computer, "CN=PC1,"+people, "pc1@corp.example")
	w.pass(store.Full)
	connections := w.server.Stats().Connections
	if got := w.wantDifferences(); got.Objects != 3 || got.Addresses != 6 || got.Differs != 0 ||
		got.Unsettled != nil || !got.Followed ||
		got.Controller != "dc1.corp.example" || got.USN == 0 {
		t.Errorf("an equal index: %+v", got)
	}
	if n := w.server.Stats().Connections - connections; n != 1 {
		t.Errorf("%d new connections, want one of its own", n)
	}
	before := w.known()
	w.corrupt(owning(t, ann, "ann@corp.example"),
		owning(t, bob, "bob@corp.example", "robert@corp.example", "team@corp.example"),
		owning(t, adsim.GUID{9}, "ghost@corp.example", "team@corp.example"))
	for range 2 {
		got := w.wantDifferences("a.smith@corp.example index:false directory:true",
			"ghost@corp.example index:true directory:false",
			"robert@corp.example index:true directory:false", "team@corp.example index:true directory:false")
		if got.Differs != 3 || got.Unsettled != nil {
			t.Errorf("a wrong index: %+v", got)
		}
	}
	if got := w.known(); slices.Equal(got, before) || !slices.Contains(got, "ghost@corp.example") {
		t.Errorf("comparing changed the index: %q", got)
	}
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil {
		t.Fatal(r.Err)
	}
	w.wantDifferences()
	w.wantEqual()
}

// TestCompareNamesTheCause checks held removals, and addresses seen recently at another controller.
func TestCompareNamesTheCause(t *testing.T) {
	var second *adsim.Server
	var d2 *adsim.Directory
	w := comparing(t, func(w *world, c *Config) {
		guarded(w, c)
		d2 = adsim.NewDirectory(adsim.DirectoryConfig{Host: "dc2", Clock: w.now})
		second = adsim.StartTest(w.t, d2, adsim.ServerConfig{})
		c.Candidates = append(c.Candidates, w.candidate(second))
	})
	var users []adsim.GUID
	for i := range 9 {
		users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
	}
	w.pass(store.Full)
	d2.Restore(w.d.Snapshot())
	d2.NewInvocationID()
	w.user("Late", "late@corp.example") // never replicated to dc2
	w.pass(store.Incremental)
	w.server.Down()
	w.pass(store.Full)
	w.advance(time.Minute)
	for _, u := range users[:4] {
		w.must(d2.Delete(u))
	}
	got := w.wantDifferences("late@corp.example index:true directory:false replication",
		"u0@corp.example index:true directory:false held", "u1@corp.example index:true directory:false held",
		"u2@corp.example index:true directory:false held", "u3@corp.example index:true directory:false held")
	if got.Controller != "dc2.corp.example" || !got.Followed || got.Unsettled != nil {
		t.Errorf("comparison: %+v", got)
	}
}

// TestCompareWhileItChanges checks that changes during the comparison are not reported as differences.
func TestCompareWhileItChanges(t *testing.T) {
	w := comparing(t, nil)
	ann, bob := w.user("Ann", "ann@corp.example"), w.user("Bob", "bob@corp.example")
	cid := w.user("Cid", "cid@corp.example")
	for i := range 10 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	w.pass(store.Full)
	w.user("before", "before@corp.example") // the mirror has not read it yet
	w.must(w.d.Delete(cid))
	pages := 0
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Scope != 2 || strings.Contains(s.Filter, "uSNChanged") || strings.Contains(s.Filter, "objectGUID") {
			return // of the mirror
		}
		pages++
		w.user(fmt.Sprint("during", pages), fmt.Sprintf("during%d@corp.example", pages))
		if pages == 3 {
			w.set(ann, "bob@corp.example", "anne@corp.example")
			w.set(bob)
		}
	}})
	if got := w.wantDifferences(); got.Differs != 0 || pages < 4 {
		t.Errorf("%d pages, comparison: %+v", pages, got)
	}
	w.wantEqual()
}

// TestCompareMovedContainer checks that the objects below a moved container are read again.
func TestCompareMovedContainer(t *testing.T) {
	w := comparing(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
	w.add(adsim.OU, "OU=Sales,"+people)
	w.add(adsim.User, "CN=Ann,OU=Sales,"+people, "ann@corp.example")
	for i := range 8 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	w.pass(store.Full)
	sales, err := w.d.Lookup("OU=Sales," + people)
	w.must(err)
	moved := false
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Scope == 2 && !strings.Contains(s.Filter, "uSNChanged") && s.Page == 4 && !moved {
			moved = true
			w.must(w.d.Move(sales.GUID, "OU=Left,DC=corp,DC=example"))
		}
	}})
	if got := w.wantDifferences(); !moved || got.Objects != 8 || got.Unsettled != nil {
		t.Errorf("moved %t, comparison: %+v", moved, got)
	}
	w.wantEqual()
}

// TestCompareCannotRead checks that a failure is an error, without any reported differences.
func TestCompareCannotRead(t *testing.T) {
	w := comparing(t, nil)
	if _, _, err := w.compare(); !errors.Is(err, ErrNoFullPass) { // a pass that finds no addresses fails
		t.Errorf("before the first full pass: %v, want ErrNeverRead", err)
	}
	w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.user("Cid", "cid@corp.example")
	w.pass(store.Full)
	full := func(s adsim.Search) bool { return s.Scope == 2 && !strings.Contains(s.Filter, "uSNChanged") }
	for _, c := range []struct {
		what string
		make func()
	}{
		{"cut in the second page", func() {
			w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
				if full(s) && s.Page == 2 {
					w.server.CutConnections()
				}
			}})
		}},
		{"down", func() { w.server.Down() }},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.make()
			if got, result, err := w.compare(); err == nil || len(got) > 0 {
				t.Errorf("%q, %+v, %v", got, result, err)
			}
			w.server.SetFaults(adsim.Faults{})
		})
	}
}

// TestCompareWithoutPasses checks that differences are reported even if the pass fails.
func TestCompareWithoutPasses(t *testing.T) {
	w := comparing(t, nil)
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	w.corrupt(owning(t, ann))
	dial := w.config.Candidates[0].Dial
	var dials atomic.Int32
	var broken atomic.Bool
	w.config.Candidates[0].Dial = func(ctx context.Context) (Source, error) {
		source, err := dial(ctx)
		if dials.Add(1) == 2 { // the connection of the comparison
			return source, err
		}
		return breaking{source, &broken}, err
	}
	w.restart()
	stop := w.run()
	defer stop()
	if r := next(t, w.mirror.Sync(false)); r.Err != nil {
		t.Fatal(r.Err)
	}
	var got []string
	result, err := w.mirror.Compare(t.Context(), func(int) { broken.Store(true) }, func(d Difference) error {
		got = append(got, d.Address.String())
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"ann@corp.example"}) || result.Unsettled == nil ||
		!strings.Contains(result.Unsettled.Error(), "out of order") {
		t.Errorf("%q, %+v, %v", got, result, err)
	}
	// A second comparison is rejected.
	w.mirror.comparing.Lock()
	defer w.mirror.comparing.Unlock()
	if _, err := w.mirror.Compare(t.Context(), nil, nil); !errors.Is(err, ErrCompareRunning) {
		t.Errorf("a second comparison: %v", err)
	}
}

// breaking is a source whose rootDSE fails once the test has set a flag.
type breaking struct {
	Source
	broken *atomic.Bool
}

func (b breaking) Root(ctx context.Context) (directory.Root, error) {
	if b.broken.Load() {
		return directory.Root{}, errors.New("out of order")
	}
	return b.Source.Root(ctx)
}
