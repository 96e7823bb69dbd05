package mirror

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestRandomDisasters adds faults of the daemon to the changes of TestRandomReplicas. The clock is set back and
// corrected, the process is killed during a read, the newest files of the store are lost, the disk is full, the
// guard holds removals, an operator approves or discards them, a reload excludes an OU and includes it again,
// and an OU with objects moves. In every state, no address in the newest state that a pass has read may be
// unknown. SEEDS and SEED are those of TestRandomReplicas.
func TestRandomDisasters(t *testing.T) {
	first, seeds := number(t, "SEED", 0), number(t, "SEEDS", 3)
	for seed := first; seed < first+seeds; seed++ {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed %d, two directories %t", seed, two), func(t *testing.T) {
				d := newDisasters(t, uint64(seed), two)
				for range 120 {
					d.step()
				}
			})
		}
	}
}

// disasters is the world of one seed.
type disasters struct {
	*replicatedLife
	two      bool
	full     bool // the disk is full
	excluded bool // the OU elsewhere is excluded
	team     adsim.GUID
	ahead    time.Duration // error of the clock
	seen     func()        // called before a page is read
}

func newDisasters(t *testing.T, seed uint64, two bool) *disasters {
	d := &disasters{two: two, seen: func() {}}
	d.replicatedLife = newReplicatedLife(t, seed, two, seed%3 == 0)
	d.window = 110 * time.Minute // reduced, because the clock is wrong by up to an hour in between
	for _, s := range d.ss {
		s.SetFaults(adsim.Faults{BeforePage: func(adsim.Search) { d.seen() }})
	}
	d.team = d.add(adsim.OU, "OU=Team,"+people)
	for i := range 3 {
		name := fmt.Sprintf("t%d", i)
		d.add(adsim.User, fmt.Sprintf("CN=%s,OU=Team,%s", name, people), name+"@corp.example")
	}
	d.converge()
	d.config.Guard = Guard{Percent: 10, Count: 1, Max: 3, Window: 30 * time.Minute}
	d.begin(d.dir)
	for _, f := range d.followers {
		d.follow(f)
	}
	return d
}

// begin starts the process on a store after another process has ended.
func (d *disasters) begin(dir string) {
	d.t.Helper()
	for _, f := range d.followers {
		f.Close()
	}
	d.must(d.world.store.Close())
	s, err := store.Open(context.Background(), store.Config{Dir: dir, MinFree: 1, Now: d.now, KeepAnswering: true,
		FreeSpace: func(string) (uint64, error) {
			if d.full {
				return 0, nil
			}
			return 1 << 30, nil
		}})
	d.must(err)
	d.t.Cleanup(func() { s.Close() })
	d.world.store, d.dir = s, dir
	d.reload()
}

// reload creates new mirrors with the current configuration.
func (d *disasters) reload() {
	d.config.Rules.Exclude = nil
	if d.excluded {
		d.config.Rules.Exclude = []string{elsewhere}
	}
	d.restart()
	d.followers = []follows{{Mirror: d.mirror, all: !d.two}}
	if d.two {
		d.second()
	}
}

// snapshot copies the files of the store while nothing writes.
func (d *disasters) snapshot() string {
	files := func() (all []string) {
		entries, err := os.ReadDir(d.dir)
		d.must(err)
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				all = append(all, fmt.Sprint(e.Name(), info.Size(), info.ModTime()))
			}
		}
		return all
	}
	for {
		dir, before := d.t.TempDir(), files()
		err := os.CopyFS(dir, os.DirFS(d.dir))
		if slices.Equal(before, files()) {
			d.must(err)
			return dir
		}
	}
}

func (d *disasters) step() {
	switch d.r.IntN(16) {
	case 0:
		d.wrongClock()
	case 1:
		d.killed()
	case 2:
		d.full = !d.full
		d.note("disk full: %t", d.full)
	case 3:
		d.operator()
	case 4:
		d.changedRules()
	case 5:
		d.movedTeam()
	case 6:
		d.lostFiles()
	default:
		d.replicatedLife.step()
	}
	for i := range 3 {
		if a := fmt.Sprintf("t%d@corp.example", i); !d.knows(a) && !d.cannotTell() {
			d.t.Fatalf("%s is lost\n%s", a, d.story())
		}
	}
}

func (d *disasters) wrongClock() {
	was := d.ahead
	d.ahead = time.Duration(d.r.IntN(61)-30) * time.Minute
	d.advance(d.ahead - was)
	d.note("the clock is wrong by %v", d.ahead)
}

// remember returns a function that restores the record of what the passes have read.
func (d *disasters) remember() func() {
	var before []lifeObject
	for _, o := range d.objects {
		saved := *o
		saved.counted = maps.Clone(o.counted)
		before = append(before, saved)
	}
	return func() {
		for i, o := range d.objects {
			o.newest, o.read, o.holds, o.counted = before[i].newest, before[i].read, before[i].holds, before[i].counted
		}
	}
}

// killed ends the process while a pass reads a page. The next process finds the state on disk.
func (d *disasters) killed() {
	pages, dir, restore := d.r.IntN(6), "", d.remember()
	d.seen = func() {
		if pages--; pages == 0 {
			dir = d.snapshot()
		}
	}
	d.follow(d.followers[d.r.IntN(len(d.followers))])
	d.seen = func() {}
	if dir == "" || d.full { // a store cannot be opened for writing on a full disk
		return
	}
	restore()
	d.note("killed while it read")
	d.begin(dir)
}

// lostFiles replaces the newest files by older ones. Only the mark stays.
func (d *disasters) lostFiles() {
	if d.full {
		return
	}
	older := d.snapshot()
	for range 1 + d.r.IntN(6) {
		d.replicatedLife.step()
	}
	mark, err := os.ReadFile(filepath.Join(d.dir, "COMMITTED"))
	d.must(err)
	d.must(os.WriteFile(filepath.Join(older, "COMMITTED"), mark, 0o600))
	d.note("the newest files are lost")
	d.begin(older)
}

func (d *disasters) operator() {
	for _, f := range d.followers {
		stored := d.world.store.Directory(f.Name())
		if stored.Marked == 0 {
			continue
		}
		if d.r.IntN(2) == 0 {
			info, err := d.world.store.Approve(f.Name(), stored.Newest().Number, stored.Fingerprint, d.now())
			d.note("%s: approved, -%d, %v", f.Name(), info.Removed, err)
		} else {
			n, err := d.world.store.Discard(f.Name(), d.now())
			d.note("%s: discarded %d, %v", f.Name(), n, err)
		}
	}
}

// changedRules toggles the exclusion of the OU elsewhere.
func (d *disasters) changedRules() {
	if d.two {
		return
	}
	d.excluded = !d.excluded
	d.note("excluded: %t", d.excluded)
	d.reload()
}

func (d *disasters) movedTeam() {
	to := people
	if e, err := d.world.d.Get(d.team); err == nil && e.DN == "OU=Team,"+people {
		to = "CN=Users,DC=corp,DC=example"
	}
	if d.two && to != people {
		return // the OU would leave the bases
	}
	d.must(d.world.d.Move(d.team, to))
	d.note("the OU of the team moves to %s", to)
}
