package store

import (
	"errors"
	"fmt"

	"rcpt-milter/address"
)

// A feed tells a publisher which objects of a directory changed, so followers can answer the
// same. The publisher works in this order:
//
//  1. SetFeed switches the feed on. From then on, every change enters the outbox.
//  2. Without a place (FeedPlace), the publisher compares everything (FeedAll) with what it has
//     published, publishes the difference, and stores its place.
//  3. With a place, it publishes FeedChanges in their order, reports them with FeedDone, and stores
//     its place. It asks for the place before each round.
//
// The place and the outbox belong together: what clears one of them clears the place.

// FeedObject is what lookups answer of one object of a directory, for a follower.
type FeedObject struct {
	GUID      GUID
	Class, DN string
	Addresses []FeedAddress // empty: the object owns nothing
	Change    uint64        // increases from one reading of a changed object to the next; opaque, for FeedDone
}

// FeedAddress is one address of a FeedObject.
type FeedAddress struct {
	Address      address.Address
	Attribute    string
	InternalOnly bool
}

// Errors of a feed. The error around them names the directory.
var (
	// ErrFeedOff means that changes are not recorded: the feed was never switched on, or a new
	// store has replaced a damaged one.
	ErrFeedOff = errors.New("its feed is off; switch it on and compare everything")
	// ErrNotRead means that the store may lack what the directory has. What it does not have must
	// not be taken for unknown.
	ErrNotRead = errors.New("it has not been read in full; wait for a full pass")
)

// maxPlace limits the size of a place, in bytes.
const maxPlace = 4096

// feedRecord is the value of an e/ key. A directory whose feed is off has none.
type feedRecord struct {
	on    bool
	place []byte // of the publisher, opaque; empty means none
}

func (r *feedRecord) encode() []byte {
	e := newEncoder()
	e.string(string(r.place))
	return e
}

func decodeFeed(value []byte) (feedRecord, error) {
	if value == nil {
		return feedRecord{}, nil
	}
	d := newDecoder(value)
	r := feedRecord{on: true, place: []byte(d.string())}
	return r, d.done()
}

// loadFeed reads the state of a feed.
func (s *Store) loadFeed(dir dirID) (feedRecord, error) {
	key := dirKey(prefixFeed, dir)
	value, err := s.get(key)
	if err != nil {
		return feedRecord{}, err
	}
	feed, err := decodeFeed(value)
	if err != nil {
		return feed, s.unreadable(fmt.Sprintf("%x", key), err)
	}
	return feed, nil
}

// setFeed replaces the state of a feed, on disk and in memory.
func (u *unit) setFeed(d *directory, feed feedRecord) {
	var value []byte
	if feed.on {
		value = feed.encode()
	}
	u.set(dirKey(prefixFeed, d.record.id), value)
	u.afterCommit(func() { d.feed = feed })
}

// SetFeed switches the feed of a directory on or off. It does nothing if the feed is in that state
// already. Switching it on creates an unknown directory. Switching it off empties the outbox and
// forgets the place.
func (s *Store) SetFeed(name string, on bool) error {
	s.feeding.Lock()
	defer s.feeding.Unlock()
	if on {
		return s.startFeed(name)
	}
	return s.stopFeed(name)
}

func (s *Store) startFeed(name string) error {
	d, feed := s.feedOf(name)
	if feed.on {
		return nil
	}
	if d == nil {
		var err error
		if d, err = s.createDirectory(name); err != nil {
			return err
		}
	}
	if err := s.emptyOutbox(s.idOf(d)); err != nil { // switching it off was interrupted
		return err
	}
	return s.write(func(t *tx) error {
		now, feed := s.feedOf(name)
		if now != d || feed.on {
			return fmt.Errorf("directory %s: it was dropped just now; switch its feed on again", name)
		}
		u := &unit{}
		u.setFeed(d, feedRecord{on: true})
		return t.add(u)
	})
}

func (s *Store) stopFeed(name string) error {
	d, feed := s.feedOf(name)
	if d == nil {
		return nil
	}
	if feed.on {
		err := s.write(func(t *tx) error {
			u := &unit{}
			u.setFeed(d, feedRecord{})
			return t.add(u)
		})
		if err != nil {
			return err
		}
	}
	return s.emptyOutbox(s.idOf(d))
}

// idOf returns the number of a directory. A pass may replace its record at the same time.
func (s *Store) idOf(d *directory) dirID {
	s.state.Lock()
	defer s.state.Unlock()
	return d.record.id
}

// feedOf returns a directory and the state of its feed. Nil means that the directory does not
// exist.
func (s *Store) feedOf(name string) (*directory, feedRecord) {
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if d == nil {
		return nil, feedRecord{}
	}
	return d, d.feed
}

// FeedDone removes published objects from the outbox, unless they changed after they were read with
// FeedChanges or FeedAll. It uses only their GUIDs and Change.
func (s *Store) FeedDone(name string, done []FeedObject) error {
	return writeInChunks(s, done, func(t *tx, o FeedObject) error {
		d, feed := s.feedOf(name)
		if d == nil || !feed.on {
			return feedError(name, ErrFeedOff)
		}
		if o.Change>>changeBits != s.epoch.Load() { // of a state that was lost, or of a former store
			return nil
		}
		return t.published(d, o.GUID, o.Change&(1<<changeBits-1))
	})
}

// changeBits is how many bits of FeedObject.Change have the number of a commit. The others have
// the epoch of the store, because a store that lost its newest commits uses their numbers again.
const changeBits = 48

// FeedPlace returns what SetFeedPlace has stored last. Nil means that the publisher must compare
// everything: the feed is off or was off, or the store lost its newest commits since.
func (s *Store) FeedPlace(name string) ([]byte, error) {
	if err := s.beginRead(); err != nil {
		return nil, err
	}
	defer s.endRead()
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if _, doubted := s.state.doubts[name]; d == nil || doubted || len(d.feed.place) == 0 {
		return nil, nil
	}
	return append([]byte(nil), d.feed.place...), nil
}

// SetFeedPlace stores the place of the publisher: whatever it needs to tell that what it has
// published is what the outbox says. An empty place makes it compare everything.
func (s *Store) SetFeedPlace(name string, place []byte) error {
	if len(place) > maxPlace {
		return fmt.Errorf("directory %s: the place of its publisher has %d bytes, at most %d are possible", name,
			len(place), maxPlace)
	}
	return s.write(func(t *tx) error {
		d, feed := s.feedOf(name)
		if d == nil || !feed.on {
			return feedError(name, ErrFeedOff)
		}
		if s.inDoubtOf(name) {
			return feedError(name, ErrNotRead)
		}
		u := &unit{}
		u.setFeed(d, feedRecord{on: true, place: append([]byte(nil), place...)})
		return t.add(u)
	})
}

// inDoubtOf reports whether a directory is in doubt.
func (s *Store) inDoubtOf(name string) bool {
	s.state.Lock()
	defer s.state.Unlock()
	_, doubted := s.state.doubts[name]
	return doubted
}

func feedError(name string, err error) error { return fmt.Errorf("directory %s: %w", name, err) }
