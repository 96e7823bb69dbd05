package store

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"
)

// A stream of the crash tests is a file beside the store. It survives the process that writes it,
// as a stream of an engine does.
func streamFile(s *Store) string { return s.config.Dir + ".stream" }

// A message is one object in the stream.
type message struct {
	GUID      GUID
	Addresses map[string]bool // to whether it is internal-only
}

// publishToFile publishes everything that is in the outbox.
func publishToFile(s *Store, dir string) error {
	f, err := os.OpenFile(streamFile(s), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		changes, err := s.FeedChanges(dir, 3)
		if err != nil || len(changes) == 0 {
			return err
		}
		for _, o := range changes {
			m := message{o.GUID, map[string]bool{}}
			for _, a := range o.Addresses {
				m.Addresses[a.Address.String()] = a.InternalOnly
			}
			if err := json.NewEncoder(f).Encode(m); err != nil {
				return err
			}
		}
		if err := errors.Join(s.FeedDone(dir, changes), s.SetFeedPlace(dir, []byte("here"))); err != nil {
			return err
		}
	}
}

// readStream returns what a follower of the stream has.
func readStream(t *testing.T, s *Store) follower {
	t.Helper()
	file, err := os.Open(streamFile(s))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := follower{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		o := FeedObject{GUID: m.GUID}
		for a, internalOnly := range m.Addresses {
			o.Addresses = append(o.Addresses, FeedAddress{Address: mustParse(t, a), InternalOnly: internalOnly})
		}
		f.set(o)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFeedInDoubt: a store that lost its newest commits may have lost entries of the outbox with
// them. It reports nothing until the directory was read in full. Then the publisher compares.
func TestFeedInDoubt(t *testing.T) {
	c := serving(t.TempDir())
	s := open(t, c)
	switchFeed(t, s, "corp", true)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	older := copyOf(t, c.Dir)
	if err := s.SetFeedPlace("corp", []byte("seven")); err != nil {
		t.Fatal(err)
	}
	pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 1, "b@x.test"))
	published, err := s.FeedChanges("corp", 10)
	if err != nil || len(published) != 1 {
		t.Fatal(published, err)
	}
	restoreMark(t, c.Dir, older)
	replaceFiles(t, s, older)
	if s.Directory("corp").Doubt == "" {
		t.Fatal("no doubt: this shows nothing")
	}
	wantUncertain := func() {
		t.Helper()
		_, changes := s.FeedChanges("corp", 10)
		all := s.FeedAll("corp", func(FeedObject) error { return nil })
		place := s.SetFeedPlace("corp", []byte("eight"))
		for _, err := range []error{changes, all, place} {
			if !errors.Is(err, ErrNotRead) {
				t.Errorf("in doubt: %v, want ErrNotRead", err)
			}
		}
		if place, err := s.FeedPlace("corp"); place != nil || err != nil {
			t.Errorf("place %q, %v", place, err)
		}
	}
	wantUncertain()
	pass(t, s, "corp", Incremental, start.Add(2*time.Minute), "", object(t, 2, "c@x.test"))
	wantUncertain()
	pass(t, s, "corp", Full, start.Add(3*time.Minute), "", object(t, 1, "a@x.test"), object(t, 2, "c@x.test"))
	if place, err := s.FeedPlace("corp"); place != nil || err != nil {
		t.Errorf("after the doubt: place %q, %v", place, err)
	}
	before := s.Directory("corp").FeedPending
	if err := s.FeedDone("corp", published); err != nil || s.Directory("corp").FeedPending != before || before != 2 {
		t.Errorf("what was published of a lost state removed entries: %d, %v, %d before",
			s.Directory("corp").FeedPending, err, before)
	}
	wantFollowed(t, s, "corp", feedAll(t, s, "corp"))
}

// TestFeedOfARebuiltStore: a store that replaces a damaged one has no feed, no place and no entry.
func TestFeedOfARebuiltStore(t *testing.T) {
	s := open(t, serving(filledDir(t, nil, 50)))
	switchFeed(t, s, "corp", true)
	if err := s.SetFeedPlace("corp", []byte("seven")); err != nil {
		t.Fatal(err)
	}
	s.markDamaged(errors.New("checksum mismatch"))
	rebuild(t, s, 50)
	if _, err := s.FeedChanges("corp", 1); !errors.Is(err, ErrFeedOff) {
		t.Errorf("changes: %v, want ErrFeedOff", err)
	}
	if err := s.SetFeedPlace("corp", []byte("eight")); !errors.Is(err, ErrFeedOff) {
		t.Errorf("place: %v, want ErrFeedOff", err)
	}
	switchFeed(t, s, "corp", true)
	if place, err := s.FeedPlace("corp"); place != nil || err != nil {
		t.Errorf("place %q, %v", place, err)
	}
	f := feedAll(t, s, "corp")
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", object(t, 1, "new@x.test"))
	wantFollowed(t, s, "corp", f)
	checkSound(t, s)
}
