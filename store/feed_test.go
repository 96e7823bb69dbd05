package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

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
