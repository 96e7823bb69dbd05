package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// life is a store with several directories. Passes read one of two databases each; they are
// held, approved, discarded and aborted while the disk becomes full and the process is killed.
// All counts are checked by a recount after every commit.
type life struct {
	t    *testing.T
	r    *rand.Rand
	s    *Store
	now  time.Time
	full int // commits until the disk is full; negative means never

	inline int // an object with more addresses is stored in parts; zero means as usual
	dirs   []*lifeDir

	checked int
}

// lifeDir is one directory: the addresses of its objects, with "!" if internal-only.
type lifeDir struct {
	name    string
	has     map[byte][]string
	changed map[byte]bool // since the last committed pass
	read    bool
}

// newLife returns the life of a seed. In every other one, objects with two addresses have parts.
func newLife(t *testing.T, seed uint64) *life {
	l := &life{t: t, r: rand.New(rand.NewPCG(seed, 9)), now: start, full: -1, inline: int(seed % 2)}
	for _, name := range []string{"corp", "lab", "shop"} {
		l.dirs = append(l.dirs, &lifeDir{name: name, has: map[byte][]string{}, changed: map[byte]bool{}})
	}
	l.open(t.TempDir())
	return l
}

func (l *life) open(dir string) {
	l.s = nil
	s := open(l.t, Config{Dir: dir, MinFree: 1, memTable: 1 << 20, inline: l.inline,
		FreeSpace: func(string) (uint64, error) {
			if l.full == 0 {
				return 0, nil
			}
			l.full = max(l.full-1, -1)
			return 1 << 30, nil
		},
		afterCommit: func(int) { l.check() }})
	l.s = s
	l.check()
}

func (l *life) check() {
	if l.s == nil || l.t.Failed() {
		return
	}
	l.checked++
	if err := soundness(l.s); err != nil {
		l.t.Errorf("after %d commits: %v", l.checked, err)
	}
}

// kill continues with what is on disk at this moment.
func (l *life) kill() {
	dir := copyOfRunning(l.t, l.s)
	l.s.config.afterCommit = nil
	l.s.Close()
	l.open(dir)
}

// copyOfRunning copies the files of an open store. It copies again if Badger created or removed
// a file meanwhile.
func copyOfRunning(t *testing.T, s *Store) string {
	t.Helper()
	files := func() (names []string) {
		entries, err := os.ReadDir(s.config.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue // removed since; the lists differ
			}
			names = append(names, fmt.Sprintf("%s %d %s", e.Name(), info.Size(), info.ModTime()))
		}
		return names
	}
	for {
		dir, before := t.TempDir(), files()
		err := os.CopyFS(dir, os.DirFS(s.config.Dir))
		if slices.Equal(before, files()) {
			if err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}
}

func (l *life) one(n int) bool { return l.r.IntN(n) == 0 }

// change changes some objects of a directory.
func (l *life) change(d *lifeDir) {
	for range l.r.IntN(5) {
		id := byte(1 + l.r.IntN(8))
		d.changed[id] = true
		var list []string
		for range l.r.IntN(5) {
			internalOnly := ""
			if l.one(5) {
				internalOnly = "!"
			}
			list = append(list, fmt.Sprintf("%sa%d@d%d.test", internalOnly, l.r.IntN(20), l.r.IntN(4)))
		}
		d.has[id] = list
	}
	if l.one(12) { // more than a transaction holds
		d.changed[99] = true
		d.has[99] = nil
		if l.one(2) {
			d.has[99] = expand([]string{fmt.Sprintf("n#%d@d1.test", 300+l.r.IntN(200))})
		}
	}
}

// pass runs a pass. It returns an error only for a full disk.
func (l *life) pass(d *lifeDir, lag time.Duration, calm bool) error {
	kind := Incremental
	if !d.read || calm || l.one(4) {
		kind = Full
	}
	database := fmt.Sprint("database ", l.r.IntN(2))
	p, err := l.s.Begin(d.name, kind, Origin{Controller: database, Database: database, Started: l.now, Lag: lag})
	if err != nil {
		return err
	}
	defer p.Abort()
	var page []Object
	for _, id := range slices.Sorted(maps.Keys(d.has)) {
		if kind == Incremental && !d.changed[id] || kind == Full && len(d.has[id]) == 0 {
			continue
		}
		o := object(l.t, id, d.has[id]...)
		o.Unsettled, o.Deleted = !calm && l.one(15), len(d.has[id]) == 0 && l.one(2)
		page = append(page, o)
	}
	l.r.Shuffle(len(page), func(i, j int) { page[i], page[j] = page[j], page[i] })
	for chunk := range slices.Chunk(page, 3) {
		if _, err := p.Apply(chunk); err != nil {
			return err
		}
		if !calm && l.one(25) {
			return nil // the connection broke
		}
	}
	if kind == Full {
		if err := p.Sweep(); err != nil {
			return err
		}
	}
	if !calm && l.one(12) {
		return nil
	}
	l.checkPending(p)
	hold := ""
	if !calm && l.one(2) {
		hold = "held"
	}
	o := Outcome{Cursor: []byte("x"), Ended: l.now, Hold: hold}
	if hold != "" && l.one(2) {
		o.HoldDomains = []HeldDomain{{"d1.test", "held"}}
	}
	if _, err := p.Commit(o); err != nil {
		return err
	}
	d.read, d.changed = true, map[byte]bool{}
	return nil
}

// checkPending compares Pending with the records.
func (l *life) checkPending(p *Pass) {
	l.t.Helper()
	due := map[string]bool{}
	want := Pending{Last: map[string]int{}, Domains: map[string]DomainLoss{}}
	id := p.dir.record.id
	err := l.s.newest().records(dirKey(prefixObject, id), func(_ dirID, guid GUID, r objectRecord) error {
		n := want.Owned
		for _, a := range r.addresses {
			if !a.mark.isZero() && !a.notBefore.After(p.now()) {
				want.Owned++
				loss := want.Domains[domainOf(a.address)]
				loss.Owned++
				want.Domains[domainOf(a.address)] = loss
				due[fmt.Sprintf("%s %x", a.address, guid)] = true
			}
		}
		if want.Owned > n {
			want.Objects++
		}
		return nil
	})
	err = errors.Join(err, l.s.scan([]byte(prefixAddress), false, func(kv pair) error {
		a := string(kv.key[len(prefixAddress):])
		r, err := decodeAddress(kv.value)
		open := slices.ContainsFunc(r.owners, func(o owner) bool { return !o.internalOnly })
		goes := r.known() && !slices.ContainsFunc(r.owners, func(o owner) bool {
			return (!open || !o.internalOnly) && (o.dir != id || !due[fmt.Sprintf("%s %x", a, o.guid)])
		})
		if goes {
			want.Last[domainOf(a)]++
			loss := want.Domains[domainOf(a)]
			loss.Last++
			want.Domains[domainOf(a)] = loss
		}
		if lost, err := p.WouldLose(parse(a)); lost != goes || err != nil {
			l.t.Errorf("loses %s: %t, %v", a, lost, err)
		}
		return err
	}))
	got, gotErr := p.Pending()
	if d := cmp.Diff(want, got); err != nil || gotErr != nil || d != "" {
		l.t.Errorf("pending: %v, %v (-want +got):\n%s", err, gotErr, d)
	}
}

func (l *life) step() error {
	d := l.dirs[l.r.IntN(len(l.dirs))]
	l.now = l.now.Add(time.Duration(l.r.IntN(90)) * time.Minute)
	if l.one(10) {
		l.full = l.r.IntN(8)
	}
	switch {
	case l.one(12):
		_, err := l.s.Discard(d.name, l.now)
		return err
	case l.one(8):
		upTo := l.s.Directory(d.name).Newest().Number
		if l.one(2) && upTo > 0 {
			upTo -= uint64(l.r.IntN(int(min(upTo, 5))))
		}
		_, err := approveHeld(l.s, d.name, upTo, l.now)
		return err
	}
	l.change(d)
	return l.pass(d, time.Duration(l.r.IntN(3))*time.Hour, false)
}

// end reads everything again without faults. The index must then equal the directories.
func (l *life) end() {
	l.t.Helper()
	l.full = -1
	internalOnly := map[string]bool{} // all known addresses
	for _, d := range l.dirs {
		l.now = l.now.Add(24 * time.Hour)
		for range 2 { // the second pass releases what waited for the lag
			if err := l.pass(d, 0, true); err != nil {
				l.t.Fatal(err)
			}
		}
		for _, list := range d.has {
			seen := map[string]bool{}
			for _, text := range list {
				a, flag := strings.CutPrefix(text, "!")
				if seen[a] { // the first one counts
					continue
				}
				seen[a] = true
				if was, there := internalOnly[a]; there {
					flag = flag && was
				}
				internalOnly[a] = flag
			}
		}
	}
	want := []string{}
	for a, flag := range internalOnly {
		if flag {
			a = "!" + a
		}
		want = append(want, a)
	}
	wantKnown(l.t, l.s, want...)
	if err := l.s.Verify(); err != nil {
		l.t.Error(err)
	}
}

func TestCountsInARandomLife(t *testing.T) {
	seeds, steps := uint64(6), 60
	if testing.Short() {
		seeds, steps = 2, 40
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			l := newLife(t, seed)
			for n := range steps {
				err := l.step()
				if err != nil && !errors.Is(err, ErrNoSpace) {
					t.Fatalf("step %d: %v", n, err)
				}
				if l.full = -1; t.Failed() {
					t.Fatalf("in step %d", n)
				}
				switch {
				case l.one(20):
					l.kill()
				case l.one(20):
					l.s.config.afterCommit = nil
					if err := l.s.Close(); err != nil {
						t.Fatal(err)
					}
					l.open(l.s.config.Dir)
				}
			}
			l.end()
			if l.checked < steps {
				t.Errorf("%d commits in %d steps: this shows little", l.checked, steps)
			}
		})
	}
}
