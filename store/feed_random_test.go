package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestFeedOfRandomLives: a map that applies the changes in their order has at any time what the
// store had throughout, and has in the end what the store has.
func TestFeedOfRandomLives(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			life := newFeedLife(t, seed)
			for i := range 60 {
				life.step(t, start.Add(time.Duration(i)*time.Hour))
			}
			for _, d := range life.dirs {
				wantFollowed(t, life.s, d.name, life.followers[d.name])
			}
			if err := life.s.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

type feedLife struct {
	s         *Store
	r         *rand.Rand
	m         model
	dirs      []*truth
	followers map[string]follower
	kept      map[string]map[string]bool // by directory: what it had after every commit since all was published
}

func newFeedLife(t *testing.T, seed uint64) *feedLife {
	l := &feedLife{r: rand.New(rand.NewPCG(seed, 7)), m: model{owns: map[ownership]bool{}},
		dirs:      []*truth{{name: "corp"}, {name: "other"}},
		followers: map[string]follower{}, kept: map[string]map[string]bool{}}
	l.s = open(t, Config{Dir: t.TempDir(), afterCommit: func(int) {
		if l.s == nil || t.Failed() {
			return
		}
		for _, d := range l.dirs {
			now := ownersOf(t, l.s, d.name)
			for a, internalOnly := range l.kept[d.name] {
				if is, known := now[a]; !known {
					delete(l.kept[d.name], a)
				} else if is && !internalOnly {
					l.kept[d.name][a] = true
				}
			}
		}
		checkSound(t, l.s)
	}})
	for _, d := range l.dirs {
		switchFeed(t, l.s, d.name, true)
		l.followers[d.name], l.kept[d.name] = follower{}, map[string]bool{}
	}
	return l
}

func (l *feedLife) step(t *testing.T, at time.Time) {
	d := l.dirs[l.r.IntN(len(l.dirs))]
	switch l.r.IntN(12) {
	case 0:
		if _, err := approveHeld(l.s, d.name, l.s.Directory(d.name).Newest().Number, at); err != nil {
			t.Fatal(err)
		}
		l.m.approved(d, l.s)
	case 1:
		if _, err := l.s.Discard(d.name, at); err != nil {
			t.Fatal(err)
		}
	case 2:
		config := l.s.config
		if err := l.s.Close(); err != nil {
			t.Fatal(err)
		}
		l.s = open(t, config)
	default:
		d.change(l.r)
		l.m.pass(t, l.s, d, l.r, at)
	}
	for _, d := range l.dirs {
		l.publish(t, d.name)
	}
}

// publish applies some changes. It may end before FeedDone, as after a crash.
func (l *feedLife) publish(t *testing.T, dir string) {
	f, limit := l.followers[dir], 1+l.r.IntN(8)
	check := func(FeedObject) {
		has := f.owners()
		for a, internalOnly := range l.kept[dir] {
			if is, known := has[a]; !known || is && !internalOnly {
				t.Errorf("directory %s: the store has %s all the time, the follower %t (internal-only: %t)", dir, a,
					known, is)
			}
		}
	}
	switch l.r.IntN(4) {
	case 0: // the hub or its connection is down
		return
	case 1: // it ends before FeedDone
		changes, err := l.s.FeedChanges(dir, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range changes[:l.r.IntN(len(changes)+1)] {
			f.set(o)
			check(o)
		}
		return
	}
	if f.follow(t, l.s, dir, limit, 1+l.r.IntN(20), check) {
		l.kept[dir] = ownersOf(t, l.s, dir)
		if got, want := f.digest(), mustDigest(t, l.s, dir); got != want {
			t.Errorf("directory %s: everything is published, and the digests are %x and %x", dir, got, want)
		}
	}
}

// approved takes over what an approval has released.
func (m *model) approved(d *truth, s *Store) {
	id, _ := s.directoryID(d.name)
	for o := range m.owns {
		if o.dir != d.name {
			continue
		}
		record, err := s.addressRecord(fmt.Sprintf("a%d@x.test", o.address))
		if flags, there := record.owner(id, GUID{byte(o.object + 1)}); err == nil && there {
			m.owns[o] = flags.internalOnly
		} else {
			delete(m.owns, o)
		}
	}
}
