package store

import (
	"errors"
	"time"

	"rcpt-milter/internal/clock"
)

// Kind is the kind of a pass.
type Kind int

const (
	Incremental Kind = iota // reads what changed since the cursor
	Full                    // reads everything; an object that it does not see is gone
)

func (k Kind) String() string {
	if k == Full {
		return "full"
	}
	return "incremental"
}

// MarshalText makes JSON logs print the kind as a word.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// PassInfo describes a committed pass. The zero value means that there was none.
type PassInfo struct {
	Number     uint64
	Directory  string
	Kind       Kind
	Why        string // reason for a full pass
	Controller string // DNS name of the domain controller that was read
	USN        uint64 // the USN at which its cursor ended
	Started    time.Time
	Ended      time.Time
	Seen       int    // objects read
	Added      int    // addresses that objects gained
	Changed    int    // objects written
	Removed    int    // addresses that objects lost by its release
	Held       int    // addresses whose removal was held back
	Hold       string // why they were held back; empty means not held
	Approved   bool   // it read nothing and released held removals
}

func (e *encoder) pass(p *PassInfo) {
	e.uint(p.Number)
	e.string(p.Directory)
	e.uint(uint64(p.Kind))
	e.string(p.Why)
	e.string(p.Controller)
	e.uint(p.USN)
	e.time(p.Started)
	e.time(p.Ended)
	for _, n := range []int{p.Seen, p.Added, p.Changed, p.Removed, p.Held} {
		e.uint(uint64(n))
	}
	e.string(p.Hold)
	e.bool(p.Approved)
}

func (d *decoder) pass() (p PassInfo) {
	p.Number, p.Directory, p.Kind = d.uint(), d.string(), Kind(d.uint())
	p.Why, p.Controller, p.USN = d.string(), d.string(), d.uint()
	p.Started, p.Ended = d.time(), d.time()
	for _, n := range []*int{&p.Seen, &p.Added, &p.Changed, &p.Removed, &p.Held} {
		*n = int(d.uint())
	}
	p.Hold, p.Approved = d.string(), d.bool()
	return p
}

// directoryRecord is the value of a d/ key.
type directoryRecord struct {
	id              dirID
	fingerprint     string
	full            PassInfo       // last committed full pass
	incremental     PassInfo       // last committed incremental pass
	hold            string         // why removals are held back; empty means they are not
	origins         []originRecord // each has a q/ key of its own
	first           time.Time      // when the first full pass ended; zero means long ago or never
	fullPassPending string         // why an aborted full pass had begun; empty means none is pending
	held            heldDomains    // the domains that hold is limited to; none means all
	doubted         uint64         // the pass whose start was found to be in the future; 0 means none
	holdEmpty       bool           // see Outcome.HoldEmpty
}

// holdTextEmpty is the text of hold by which records without holdEmpty said the same.
const holdTextEmpty = "a full pass saw no object with an address; " +
	"check the rights of the bind account, bases and address_attributes"

func (r *directoryRecord) encode() []byte {
	e := newEncoder()
	e.uint(uint64(r.id))
	e.string(r.fingerprint)
	e.pass(&r.full)
	e.pass(&r.incremental)
	e.string(r.hold)
	e.uint(0) // format 1 had the origins here
	e.time(r.first)
	e.string(r.fullPassPending)
	if named := r.held.named; len(r.held.hashes) == 0 {
		e.namedDomains(named)
	} else { // k/ has them; a version that does not know k/ holds all removals
		e.namedDomains(nil)
	}
	unlikeText := r.holdEmpty != (r.hold == holdTextEmpty) // versions without the field read the usual record
	if r.doubted != 0 || unlikeText {
		e.uint(r.doubted)
	}
	if unlikeText {
		e.bool(r.holdEmpty)
	}
	return e
}

func decodeDirectory(value []byte) (directoryRecord, error) {
	d := newDecoder(value)
	r := directoryRecord{id: dirID(d.uint()), fingerprint: d.string(), full: d.pass(),
		incremental: d.pass(), hold: d.string()}
	r.origins = make([]originRecord, d.count())
	for i := range r.origins {
		r.origins[i] = originRecord{controller: d.string(), database: d.string()}
	}
	if d.err == nil && len(d.rest) > 0 { // records of the first versions end here
		r.first = d.time()
	}
	if d.err == nil && len(d.rest) > 0 {
		r.fullPassPending = d.string()
	}
	if d.err == nil && len(d.rest) > 0 {
		r.held.named = d.namedDomains()
	}
	if d.err == nil && len(d.rest) > 0 {
		r.doubted = d.uint()
	}
	if r.holdEmpty = r.hold == holdTextEmpty; d.err == nil && len(d.rest) > 0 {
		r.holdEmpty = d.bool()
	}
	return r, d.done()
}

// lastPass returns the number of the last committed pass.
func (r *directoryRecord) lastPass() uint64 { return max(r.full.Number, r.incremental.Number) }

// cursorRecord is the value of a c/ key.
type cursorRecord struct {
	cursor     []byte
	controller string
	time       time.Time
}

func (r *cursorRecord) encode() []byte {
	e := newEncoder()
	e.string(string(r.cursor))
	e.string(r.controller)
	e.time(r.time)
	return e
}

func decodeCursor(value []byte) (cursorRecord, error) {
	if value == nil {
		return cursorRecord{}, nil
	}
	d := newDecoder(value)
	r := cursorRecord{cursor: []byte(d.string()), controller: d.string(), time: d.time()}
	return r, d.done()
}

// Directory is the state of one directory. The zero value means never read.
type Directory struct {
	Name            string
	Cursor          []byte    // opaque to the store; nil means that no pass has stored one
	Controller      string    // the domain controller that the cursor belongs to; empty before the first commit
	Fingerprint     string    // of the rules at the last full pass
	FirstFull       time.Time // when the first full pass ended; zero means long ago, never, or an impossible time
	LastFull        PassInfo
	LastIncremental PassInfo
	Marked          int    // objects with addresses whose removal waits
	Owned           int64  // addresses of its objects; an address of two objects counts twice
	Hold            string // why removals are held back; empty means they are not
	HoldEmpty       bool   // a full pass that saw no object with an address is behind it
	// HeldDomains are the domains that Hold is limited to, sorted, or the first ones of many. Empty
	// means all.
	HeldDomains []HeldDomain

	held heldDomains // all of them

	// LastGoodDoubted means that LastGood was found to be in the future once: see DoubtLastGood.
	LastGoodDoubted bool

	// FullPassPending is the reason of a full pass that was aborted after it had written
	// something. Empty means that there was none since the last good one. The aborted pass may
	// have read another domain controller or used other rules, so no cursor continues from its
	// data: only another full pass makes the index complete again.
	FullPassPending string

	// Doubt is why the index may lack addresses that it once had. Empty means that it does not.
	// An address that the index does not have is not unknown until a full pass has ended, and until
	// a pass proves that the addresses do not exist.
	Doubt string

	// DoubtRead means that a full pass has ended since the doubt. Incremental passes may follow.
	DoubtRead bool

	// Feed reports whether changes of the directory enter the outbox; FeedPending is how many objects
	// it has that are not published.
	Feed        bool
	FeedPending int64

	// Epoch is the value of Store.Epoch that this belongs to.
	Epoch uint64
}

// Holds returns why the removals of a domain are held back; empty means they are not.
func (d Directory) Holds(domain string) string {
	if len(d.HeldDomains) == 0 {
		return d.Hold
	}
	for _, held := range d.HeldDomains {
		if held.Covers(domain) {
			return held.Why
		}
	}
	if d.held.hashed(domain) {
		return d.Hold
	}
	return ""
}

// Newest returns the last committed pass of either kind.
func (d Directory) Newest() PassInfo {
	if d.LastFull.Number > d.LastIncremental.Number {
		return d.LastFull
	}
	return d.LastIncremental
}

// ReadBy reports whether the directory had been read in full by a time.
func (d Directory) ReadBy(at time.Time) bool {
	return d.LastFull.Number != 0 && !d.FirstFull.After(at)
}

// LastGood returns when the newest committed pass began: the index is at least as recent as
// that. It may be in the future if the clock was set back since.
func (d Directory) LastGood() time.Time { return d.Newest().Started }

// Directory returns the state of one directory. For an unknown directory all but the name is
// zero.
func (s *Store) Directory(name string) Directory {
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if d == nil {
		return Directory{Name: name, Epoch: s.epoch.Load()}
	}
	first := d.record.first
	if !clock.Believable(first, s.config.Now()) {
		first = time.Time{}
	}
	counts := s.totals.Load().dirs[d.record.id]
	return Directory{Name: name, Cursor: d.cursor.cursor, Controller: d.cursor.controller,
		Fingerprint: d.record.fingerprint, FirstFull: first,
		LastFull: d.record.full, LastIncremental: d.record.incremental,
		Marked: int(counts.marked), Owned: counts.owned,
		Hold: d.record.hold, HoldEmpty: d.record.holdEmpty, HeldDomains: d.record.held.named, held: d.record.held,
		FullPassPending: d.record.fullPassPending, Epoch: s.epoch.Load(),
		Doubt: s.state.doubts[name].why, DoubtRead: s.state.doubts[name].full,
		Feed: d.feed.on, FeedPending: counts.outbox,
		LastGoodDoubted: d.record.doubted != 0 && d.record.doubted == d.record.lastPass()}
}

// Directories returns the names of all directories in the store.
func (s *Store) Directories() []string {
	s.state.Lock()
	defer s.state.Unlock()
	var names []string
	for name := range s.state.dirs {
		names = append(names, name)
	}
	return names
}

func (s *Store) loadDirectories() error {
	s.state.dirs = map[string]*directory{}
	return s.scan([]byte(prefixDirectory), false, func(p pair) error {
		record, err := decodeDirectory(p.value)
		if err != nil {
			return s.unreadable(string(p.key), err)
		}
		value, err := s.get(dirKey(prefixCursor, record.id))
		if err != nil {
			return err
		}
		cursor, err := decodeCursor(value)
		if err != nil {
			return s.unreadable(string(p.key), err)
		}
		if err := errors.Join(s.loadOrigins(&record), s.loadHeldDomains(&record)); err != nil {
			return err
		}
		feed, err := s.loadFeed(record.id)
		if err != nil {
			return err
		}
		s.state.dirs[string(p.key[len(prefixDirectory):])] = &directory{record: record, cursor: cursor, feed: feed,
			unread: record.full.Number != 0 && record.full.Controller == ""}
		s.state.nextPass = max(s.state.nextPass, record.lastPass()+1)
		return nil
	})
}
