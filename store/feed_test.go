package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A follower is a plain map that follows the feed of one directory.
type follower map[GUID]FeedObject

// set replaces an object.
func (f follower) set(o FeedObject) {
	if len(o.Addresses) == 0 {
		delete(f, o.GUID)
		return
	}
	f[o.GUID] = o
}

// owners returns the known addresses, and whether they are internal-only.
func (f follower) owners() map[string]bool {
	all := map[string]bool{}
	for _, o := range f {
		for _, a := range o.Addresses {
			internalOnly, known := all[a.Address.String()]
			all[a.Address.String()] = a.InternalOnly && (internalOnly || !known)
		}
	}
	return all
}

// digest computes the digest of what the follower has.
func (f follower) digest() Digest {
	var counts dirCounts
	for _, o := range f {
		counts.objects++
		for _, a := range o.Addresses {
			counts.ownerships++
			counts.inLookups.add(sumOfOwnership(o.GUID, a.Address.String(), a.InternalOnly))
		}
	}
	return counts.digest()
}

// text lists what the follower has, without what the edges do not use.
func (f follower) text() string {
	var lines []string
	for guid, o := range f {
		var all []string
		for _, a := range o.Addresses {
			all = append(all, fmt.Sprint(a.Address, " ", a.InternalOnly))
		}
		slices.Sort(all)
		lines = append(lines, fmt.Sprintf("%x: %s", guid, strings.Join(all, ", ")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// feedAll returns everything that a directory has.
func feedAll(t testing.TB, s *Store, dir string) follower {
	t.Helper()
	f := follower{}
	if err := s.FeedAll(dir, func(o FeedObject) error { f.set(o); return nil }); err != nil {
		t.Fatal(err)
	}
	return f
}

// follow applies up to rounds rounds of changes, and reports whether none is left.
func (f follower) follow(t testing.TB, s *Store, dir string, limit, rounds int, applied func(FeedObject)) bool {
	t.Helper()
	for range rounds {
		changes, err := s.FeedChanges(dir, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) == 0 {
			return true
		}
		for _, o := range changes {
			f.set(o)
			if applied != nil {
				applied(o)
			}
		}
		if err := s.FeedDone(dir, changes); err != nil {
			t.Fatal(err)
		}
	}
	return false
}

func wantFollowed(t testing.TB, s *Store, dir string, f follower) {
	t.Helper()
	f.follow(t, s, dir, 1000, 100, nil)
	all := feedAll(t, s, dir)
	if got, want := f.text(), all.text(); got != want {
		t.Errorf("directory %s: the follower has\n%s\nthe store has\n%s", dir, got, want)
	}
	if got, err := s.Digest(dir); err != nil || got != all.digest() || got != f.digest() {
		t.Errorf("directory %s: digest %x, %v, computed %x", dir, got, err, all.digest())
	}
	if n := s.Directory(dir).FeedPending; n != 0 {
		t.Errorf("directory %s: %d objects are pending, none should be", dir, n)
	}
}

func switchFeed(t testing.TB, s *Store, dir string, on bool) {
	t.Helper()
	if err := s.SetFeed(dir, on); err != nil {
		t.Fatal(err)
	}
}

// describe makes objects short.
func describe(objects []FeedObject) (texts []string) {
	for _, o := range objects {
		text := fmt.Sprint(o.GUID[15], ":")
		for _, a := range o.Addresses {
			mark := ""
			if a.InternalOnly {
				mark = "!"
			}
			text += " " + mark + a.Address.String()
		}
		texts = append(texts, text)
	}
	return texts
}

// TestFeedOrder: what gains comes first, and an object that gains and loses comes twice.
func TestFeedOrder(t *testing.T) {
	before := []Object{}
	for _, c := range []struct {
		name   string
		before map[byte][]string
		after  map[byte][]string
		want   [][]string // of each call, until nothing is left
	}{
		{"gain", nil, map[byte][]string{1: {"a@x"}}, [][]string{{"1: a@x"}}},
		{"loss", map[byte][]string{1: {"a@x", "b@x"}}, map[byte][]string{1: {"a@x"}}, [][]string{{"1: a@x"}}},
		{"deletion", map[byte][]string{1: {"a@x"}}, map[byte][]string{1: nil}, [][]string{{"1:"}}},
		{"move", map[byte][]string{1: {"a@x", "b@x"}}, map[byte][]string{1: {"a@x"}, 2: {"b@x"}},
			[][]string{{"2: b@x", "1: a@x"}}},
		{"exchange", map[byte][]string{1: {"a@x"}, 2: {"b@x"}}, map[byte][]string{1: {"b@x"}, 2: {"a@x"}},
			[][]string{{"1: b@x a@x", "2: a@x b@x"}, {"1: b@x", "2: a@x"}}},
		{"becomes internal-only", map[byte][]string{1: {"a@x"}}, map[byte][]string{1: {"!a@x"}},
			[][]string{{"1: !a@x"}}},
		{"opens", map[byte][]string{1: {"!a@x"}}, map[byte][]string{1: {"a@x"}}, [][]string{{"1: a@x"}}},
		{"the open one changes", map[byte][]string{1: {"a@x"}, 2: {"!a@x"}}, map[byte][]string{1: {"!a@x"}, 2: {"a@x"}},
			[][]string{{"2: a@x", "1: !a@x"}}},
		{"closes one and gains one", map[byte][]string{1: {"a@x"}}, map[byte][]string{1: {"!a@x", "b@x"}},
			[][]string{{"1: a@x b@x"}, {"1: !a@x b@x"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			read := func(all map[byte][]string) (objects []Object) {
				for id, addresses := range all {
					objects = append(objects, object(t, id, addresses...))
				}
				return objects
			}
			pass(t, s, "corp", Full, start, "", append(before, read(c.before)...)...)
			switchFeed(t, s, "corp", true)
			pass(t, s, "corp", Incremental, start.Add(time.Hour), "", read(c.after)...)
			for i := 0; ; i++ {
				changes, err := s.FeedChanges("corp", 10)
				if err != nil {
					t.Fatal(err)
				}
				if len(changes) == 0 {
					if i != len(c.want) {
						t.Errorf("%d rounds, want %d", i, len(c.want))
					}
					break
				}
				if got := describe(changes); i >= len(c.want) || !slices.Equal(got, c.want[i]) {
					t.Fatalf("round %d: %q, want %q", i, got, c.want)
				}
				if err := s.FeedDone("corp", changes); err != nil {
					t.Fatal(err)
				}
				checkSound(t, s)
			}
		})
	}
}

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

// ownersOf returns what lookups answer of a directory, from the records of addresses.
func ownersOf(t testing.TB, s *Store, dir string) map[string]bool {
	t.Helper()
	id, _ := s.directoryID(dir)
	all := map[string]bool{}
	err := s.newest().owners(id, func(a string, o owner) error {
		internalOnly, known := all[a]
		all[a] = o.internalOnly && (internalOnly || !known)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
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
				t.Errorf("directory %s: the store has %s all the time, the follower %t (internal-only: %t)", dir, a, known, is)
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

func mustDigest(t testing.TB, s *Store, dir string) Digest {
	t.Helper()
	d, err := s.Digest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
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

// TestDigest: equal ownerships have equal digests, whatever the order and the names of
// directories, and each difference shows.
func TestDigest(t *testing.T) {
	read := func(dir string, objects ...Object) Digest {
		s := open(t, Config{Dir: t.TempDir()})
		pass(t, s, "first", Full, start, "", object(t, 9, "z@x.test"))
		for _, o := range objects {
			pass(t, s, dir, Incremental, start, "", o)
		}
		return mustDigest(t, s, dir)
	}
	one, two := object(t, 1, "a@x.test", "!b@x.test"), object(t, 2, "b@x.test", "a@x.test")
	want := read("corp", one, two)
	if want.Objects != 2 || want.Addresses != 4 || want.Sum == [16]byte{} {
		t.Errorf("digest %x", want)
	}
	for name, c := range map[string]struct {
		objects []Object
		same    bool
	}{
		"other order":     {[]Object{two, object(t, 1, "!b@x.test", "a@x.test")}, true},
		"other directory": {[]Object{one, two}, true},
		"another flag":    {[]Object{object(t, 1, "a@x.test", "b@x.test"), two}, false},
		"another owner":   {[]Object{one, object(t, 3, "b@x.test", "a@x.test")}, false},
		"the flag at the other": {[]Object{object(t, 1, "a@x.test", "b@x.test"),
			object(t, 2, "!b@x.test", "a@x.test")}, false},
		"another address":        {[]Object{one, object(t, 2, "b@x.test", "c@x.test")}, false},
		"one object fewer":       {[]Object{one}, false},
		"an object without any":  {[]Object{one, two, object(t, 4)}, true},
		"it went and came again": {[]Object{one, two, object(t, 2), two}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := "corp"
			if name == "other directory" {
				dir = "elsewhere"
			}
			if got := read(dir, c.objects...); (got == want) != c.same {
				t.Errorf("digest %x beside %x", got, want)
			}
		})
	}
}

// TestFeedErrors: what the store cannot tell is an error, not an empty answer.
func TestFeedErrors(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	wantErr := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	all := func() error { return s.FeedAll("corp", func(FeedObject) error { return nil }) }
	changes := func() error { _, err := s.FeedChanges("corp", 1); return err }
	wantErr("everything of an unknown directory", all(), ErrNotRead)
	wantErr("changes of an unknown directory", changes(), ErrFeedOff)
	if d, err := s.Digest("corp"); err != nil || d != (Digest{}) {
		t.Errorf("digest of an unknown directory: %x, %v", d, err)
	}
	switchFeed(t, s, "never", false)
	if names := s.Directories(); len(names) != 0 {
		t.Errorf("directories %q", names)
	}
	switchFeed(t, s, "corp", true)
	wantErr("everything of an unread directory", all(), ErrNotRead)
	wantErr("changes", changes(), nil)
	pass(t, s, "corp", Incremental, start, "", object(t, 1, "a@x.test"))
	wantErr("everything before a full pass", all(), ErrNotRead)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	wantErr("everything", all(), nil)
	stop := errors.New("stop")
	wantErr("visit", s.FeedAll("corp", func(FeedObject) error { return stop }), stop)
	wantErr("a place", s.SetFeedPlace("corp", []byte("7")), nil)
	wantErr("a long place", s.SetFeedPlace("corp", make([]byte, maxPlace)), nil)
	if err := s.SetFeedPlace("corp", make([]byte, maxPlace+1)); err == nil {
		t.Error("a place that is too long is stored")
	}
	switchFeed(t, s, "corp", false)
	wantErr("changes", changes(), ErrFeedOff)
	wantErr("done", s.FeedDone("corp", []FeedObject{{}}), ErrFeedOff)
	wantErr("a place", s.SetFeedPlace("corp", []byte("7")), ErrFeedOff)
	s.damaged.Store(true)
	wantErr("everything of a damaged store", all(), ErrDamaged)
	wantErr("changes of a damaged store", changes(), ErrDamaged)
	_, err := s.Digest("corp")
	wantErr("digest of a damaged store", err, ErrDamaged)
	s.damaged.Store(false)
	s.Close()
	wantErr("everything of a closed store", all(), ErrClosed)
	wantErr("place of a closed store", s.SetFeedPlace("corp", nil), ErrClosed)
}

// TestFeedPlace: the place survives a restart, and ends with the feed.
func TestFeedPlace(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	wantPlace := func(want string) {
		t.Helper()
		if got, err := s.FeedPlace("corp"); err != nil || string(got) != want || (got == nil) != (want == "") {
			t.Errorf("place %q, %v, want %q", got, err, want)
		}
	}
	wantPlace("")
	switchFeed(t, s, "corp", true)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	wantPlace("")
	place := []byte("seven")
	if err := s.SetFeedPlace("corp", place); err != nil {
		t.Fatal(err)
	}
	place[0] = 'x'
	wantPlace("seven")
	switchFeed(t, s, "corp", true) // it is on
	wantPlace("seven")
	s = reopen(t, s)
	wantPlace("seven")
	if d := s.Directory("corp"); !d.Feed || d.FeedPending != 1 {
		t.Errorf("after the restart: %+v", d)
	}
	switchFeed(t, s, "corp", false)
	wantPlace("")
	switchFeed(t, s, "corp", true)
	wantPlace("")
	if d := s.Directory("corp"); !d.Feed || d.FeedPending != 0 {
		t.Errorf("switched on again: %+v", d)
	}
	checkSound(t, s)
}

// TestFeedDone: an object that changed after it was read stays in the outbox.
func TestFeedDone(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	switchFeed(t, s, "corp", true)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	old, err := s.FeedChanges("corp", 10)
	if err != nil || len(old) != 2 {
		t.Fatal(old, err)
	}
	pass(t, s, "corp", Incremental, start, "", object(t, 2, "b@x.test", "c@x.test"))
	for range 2 { // twice is harmless
		if err := s.FeedDone("corp", append(old, old...)); err != nil {
			t.Fatal(err)
		}
		checkSound(t, s)
	}
	left, err := s.FeedChanges("corp", 10)
	if got := describe(left); err != nil || !slices.Equal(got, []string{"2: b@x.test c@x.test"}) {
		t.Errorf("left: %q, %v", got, err)
	}
	if left[0].Change <= old[1].Change {
		t.Errorf("change %d after %d", left[0].Change, old[1].Change)
	}
	var all []FeedObject
	if err := s.FeedAll("corp", func(o FeedObject) error { all = append(all, o); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.FeedDone("corp", all); err != nil || s.Directory("corp").FeedPending != 0 {
		t.Errorf("after everything was published: %v, %+v", err, s.Directory("corp"))
	}
	checkSound(t, s)
}

// TestFeedIsOff: without a feed no key of it is written.
func TestFeedIsOff(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	pass(t, s, "corp", Full, start, "", object(t, 1, "b@x.test"))
	for _, prefix := range []string{prefixFeed, prefixOutbox} {
		if keys, err := s.readChunk([]byte(prefix), []byte(prefix), true); err != nil || len(keys) > 0 {
			t.Errorf("%d keys %s, %v", len(keys), prefix, err)
		}
	}
}

// TestOutboxLimit: an object that loses thousands of addresses while nothing is published does not
// make its entry larger than a transaction, and the follower still converges.
func TestOutboxLimit(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	switchFeed(t, s, "corp", true)
	f := follower{}
	pass(t, s, "corp", Full, start, "", newsletter(t, 1, 600, 30))
	f.follow(t, s, "corp", 10, 10, nil)
	for i := range 4 {
		o := newsletter(t, 1, 600, 31+i)
		pass(t, s, "corp", Incremental, start.Add(time.Duration(i)*time.Hour), "", o)
	}
	id, _ := s.directoryID("corp")
	entry, err := s.get(outboxKey(id, outboxGains, GUID{1}))
	if err != nil || len(entry) == 0 || len(entry) > outboxLimit {
		t.Errorf("the entry has %d bytes, %v", len(entry), err)
	}
	r, err := decodeOutbox(entry)
	if err != nil || !strings.HasPrefix(r.lost[len(r.lost)-1].address, strings.Repeat("s", 33)) {
		t.Errorf("the entry does not end with what was lost last: %v", err)
	}
	checkSound(t, s)
	wantFollowed(t, s, "corp", f)
}

// TestFeedOfHalfObjects: what an earlier version wrote by half is followed as lookups answer it,
// and so is its repair.
func TestFeedOfHalfObjects(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	people := []Object{object(t, 1, "a@x.test"), object(t, 2, "b@x.test", "!c@x.test")}
	pass(t, s, "corp", Full, start, "", people...)
	breakOwner(t, s, "orphan@x.test", GUID{15: 9}, ownerFlags{})
	breakOwner(t, s, "b@x.test", GUID{15: 1}, ownerFlags{internalOnly: true})
	breakOwner(t, s, "c@x.test", GUID{15: 2}, ownerFlags{}) // open, and internal-only in the record
	switchFeed(t, s, "corp", true)
	f := feedAll(t, s, "corp")
	has := f.owners()
	for a, internalOnly := range ownersOf(t, s, "corp") {
		if is, known := has[a]; !known || is != internalOnly {
			t.Errorf("%s: known %t, internal-only %t, want %t", a, known, is, internalOnly)
		}
	}
	if got := mustDigest(t, s, "corp"); got != f.digest() || got.Objects != 3 || got.Addresses != 5 {
		t.Errorf("digest %+v, computed %+v", got, f.digest())
	}
	pass(t, s, "corp", Full, start.Add(time.Hour), "too many", people...)
	wantFollowed(t, s, "corp", f)
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "", people...)
	wantFollowed(t, s, "corp", f)
	if len(f) != 2 {
		t.Errorf("after the repair:\n%s", f.text())
	}
	checkSound(t, s)
}

// TestFeedIsVerified: a recount notices an entry of the outbox that is missing, and a wrong digest.
func TestFeedIsVerified(t *testing.T) {
	for name, breakIt := range map[string]func(t *tx, id dirID) error{
		"entry": func(t *tx, id dirID) error { return t.delete(outboxKey(id, outboxGains, GUID{15: 1})) },
		"digest": func(t *tx, id dirID) error {
			u := &unit{}
			u.delta.dir(id).inLookups.add(ownershipSum{0, 1})
			return t.add(u)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			switchFeed(t, s, "corp", true)
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
			id, _ := s.directoryID("corp")
			if err := s.write(func(t *tx) error { return breakIt(t, id) }); err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(); !errors.Is(err, ErrDamaged) {
				t.Errorf("verify: %v, want ErrDamaged", err)
			}
		})
	}
}

// TestFeedAllIsComplete: an object that cannot be read is an error at the end, not a removal.
func TestFeedAllIsComplete(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
	id, _ := s.directoryID("corp")
	if err := s.write(func(t *tx) error { return t.delete(objectKey(id, GUID{15: 2})) }); err != nil {
		t.Fatal(err)
	}
	visited := 0
	err := s.FeedAll("corp", func(FeedObject) error { visited++; return nil })
	if visited != 1 || !errors.Is(err, ErrDamaged) {
		t.Errorf("visited %d, %v, want 1 and ErrDamaged", visited, err)
	}
}

// TestDropEndsTheFeed: a directory that is created again under its name has a new feed.
func TestDropEndsTheFeed(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	switchFeed(t, s, "corp", true)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	if err := s.SetFeedPlace("corp", []byte("seven")); err != nil {
		t.Fatal(err)
	}
	if dropped, err := s.Drop("corp"); dropped || err != nil {
		t.Fatal(dropped, err)
	}
	if d := s.Directory("corp"); !d.Feed {
		t.Error("a directory that was not dropped has lost its feed")
	}
	pass(t, s, "corp", Full, start.Add(time.Hour), "")
	if dropped, err := s.Drop("corp"); !dropped || err != nil {
		t.Fatal(dropped, err)
	}
	for _, prefix := range []string{prefixFeed, prefixOutbox, prefixCounts} {
		if keys, err := s.readChunk([]byte(prefix), []byte(prefix), true); err != nil || len(keys) > 0 {
			t.Errorf("%d keys %s, %v", len(keys), prefix, err)
		}
	}
	checkSound(t, s)
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "", object(t, 1, "a@x.test"))
	if place, err := s.FeedPlace("corp"); place != nil || err != nil {
		t.Errorf("place %q, %v", place, err)
	}
	if _, err := s.FeedChanges("corp", 1); !errors.Is(err, ErrFeedOff) {
		t.Errorf("changes: %v, want ErrFeedOff", err)
	}
}

// outboxSound compares the entries of the outbox with their rules: a directory with a feed, one
// entry for each object, and nothing lost that the object has.
func outboxSound(s *Store) error {
	seen := map[string]bool{}
	return s.scan([]byte(prefixOutbox), false, func(kv pair) error {
		entry, err := decodeOutbox(kv.value)
		if err != nil {
			return err
		}
		dir, guid := dirOf(kv.key), guidOf(kv.key)
		object := fmt.Sprintf("%d %x", dir, guid)
		name, _ := s.originOf(dir, 0)
		if d, feed := s.feedOf(name); d == nil || !feed.on {
			return fmt.Errorf("object %s of a directory without a feed is in the outbox", object)
		} else if class := kv.key[len(prefixOutbox)+dirIDSize]; bytes.Compare(guid[:], d.outbox.from[class][:]) < 0 {
			return fmt.Errorf("object %s is in the outbox before its beginning", object)
		}
		if seen[object] {
			return fmt.Errorf("object %s has two entries in the outbox", object)
		}
		seen[object] = true
		for _, a := range entry.lost {
			record, err := s.addressRecord(a.address)
			if flags, there := record.owner(dir, guid); err == nil && there && (a.internalOnly || !flags.internalOnly) {
				err = fmt.Errorf("object %s has lost %s and has it", object, a.address)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// digestsAgree computes the digest of each directory from what lookups answer, and again from what
// FeedAll visits.
func digestsAgree(s *Store) error {
	for _, name := range s.Directories() {
		kept, err := s.Digest(name)
		if err != nil {
			return err
		}
		id, _ := s.directoryID(name)
		var counts dirCounts
		objects := map[GUID]bool{}
		err = s.newest().owners(id, func(a string, o owner) error {
			counts.ownerships++
			counts.inLookups.add(sumOfOwnership(o.guid, a, o.internalOnly))
			objects[o.guid] = true
			return nil
		})
		if err != nil {
			return err
		}
		counts.objects = int64(len(objects))
		all := follower{}
		err = s.FeedAll(name, func(o FeedObject) error { all.set(o); return nil })
		if err != nil && !errors.Is(err, ErrNotRead) {
			return err
		}
		if computed := counts.digest(); computed != kept || err == nil && all.digest() != kept {
			return fmt.Errorf("directory %s: digest %x, from lookups %x, from FeedAll %x", name, kept, computed, all.digest())
		}
	}
	return nil
}
