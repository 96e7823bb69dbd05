// Package store is the index on disk: which recipients exist, who owns them, how far
// each directory has been read, and what changed when. It runs on Badger.
//
// # What it keeps
//
// keys.go lists the keys. The answer to a RCPT is one key, a/<address>: its owners, or
// the time when the last one went. An owner is a (directory, object) pair, so that two
// directories that both hold an object do not take its addresses from each other.
//
// # What a crash may leave
//
// Everything up to the cursor is in the data; the data may be ahead of the cursor, and
// each step ahead is true by itself. A pass is many transactions, because one would
// not hold it. New addresses take effect as they are read. An address that is gone is
// only marked, and stays known, until the pass has completed and has been judged: then
// one transaction writes the redo record, which is the commit point; the marked
// addresses are released; and a last transaction moves the cursor and deletes the redo
// record. Opening a store finishes what a redo record promises, without the directory.
// Marks of a pass that never completed are cleared when the next one begins.
//
// What one change of an object writes is one transaction: its record, look-ups, journal,
// marks and counts agree after every commit. An object that a transaction does not hold is
// written in steps that are sound by themselves.
//
// # What may run concurrently
//
// Everything. Look-ups never wait for writers. One pass at a time may be open for each
// directory; writers of different directories take turns batch by batch.
//
// # What readers see
//
// Lookup reads one key at its newest version. Everything that reads several keys
// (Verify, Recount, Describe, At, Stored, Owners, Held, Addresses, History, Journal) sees
// the store as it stood after one commit, whatever is written meanwhile: see view.go.
//
// # Damage
//
// Badger takes what it cannot read for absent. The census, in census.go, holds in memory
// which commit wrote each address and object last (about 15 bytes for each), and tells a
// record that is hidden from one that is not there. A read of a hidden record is an
// error, for look-ups and for writers, and from then on nothing is written. Opening a
// store verifies all its files and reads their keys once for the census.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Outcomes that a caller branches on. What they are wrapped in says which store and
// what to do.
var (
	ErrLocked   = errors.New("another process has the store open")
	ErrDamaged  = errors.New("the store is damaged")
	ErrNewer    = errors.New("the store was written by a newer version")
	ErrNoSpace  = errors.New("not enough free disk space")
	ErrClosed   = errors.New("the store is closed")
	ErrMissing  = errors.New("there is no store")
	ErrUnclean  = errors.New("the store was not closed in good order")
	ErrReadOnly = errors.New("the store is open for reading only")
)

// Config says where the store is and what it may use.
type Config struct {
	// Dir is the directory of the store; it is made (mode 0700) where it is missing.
	Dir string
	// MinFree is how many octets must stay free on its file system: below it nothing is
	// opened or written, because a full disk ends the process without an error (Badger
	// writes through sparse memory maps). Zero: no floor.
	MinFree uint64
	// Key encrypts what is on disk, with AES: 16, 24 or 32 octets. Empty: it does not. It
	// has to be the one that the store was made with; ErrKey says that it is not.
	Key []byte
	// LockWait is how long Open waits for another process to let go. Zero: not at all.
	LockWait time.Duration
	// MustExist makes Open fail with ErrMissing instead of making a store.
	MustExist bool
	// ReadOnly opens a store for reading, writes nothing to its directory and makes no
	// file in it. That takes one that was closed in good order: the error is ErrUnclean
	// where something is left to be finished. Implies MustExist, and no floor of free space.
	ReadOnly bool
	// FreeSpace returns how many bytes may still be written below a directory, which MinFree
	// is compared with. Nil asks the file system.
	FreeSpace func(dir string) (uint64, error)
	// Log receives what Badger has to say. Nil: discarded.
	Log *slog.Logger
	// Now is the clock by which stored times are believed; nil means time.Now.
	Now func() time.Time

	blockCache  int64       // tests; zero: blockCacheSize
	memTable    int64       // tests; zero: memTableSize
	afterCommit func(n int) // tests: called after the n-th commit of this process
	// tests: in place of (*badger.Txn).CommitAt
	commit func(txn *badger.Txn, ts uint64) error
	sums   *tableSums // set by Open
}

// Store is an open index.
type Store struct {
	config Config
	db     *badger.DB

	damaged atomic.Bool  // a record or a file is damaged: nothing is written any more
	doubted atomic.Bool  // damaged says only that a recount differed
	closed  atomic.Bool  // no new reader may begin
	readers atomic.Int64 // look-ups under way, which Close waits for

	older  bool    // open for reading only, and of an older format
	census *census // nil in a store that is open for reading only
	views  views

	totals atomic.Pointer[totals] // as of the last commit; never changed in place
	losses lossCache              // for LostSince

	writer struct { // one batch at a time
		sync.Mutex
		ts      uint64 // of the last commit
		commits int
	}

	deciding sync.Mutex // held while removals are judged and a pass commits, see Decide
	deciders atomic.Int32

	state struct { // guards what follows; never held while waiting for writer
		sync.Mutex
		nextPass uint64
		dirs     map[string]*directory
	}
}

// directory is the state of one directory, kept in step with d/ and c/.
type directory struct {
	record   directoryRecord
	cursor   cursorRecord
	removals removals // by its passes
	busy     bool     // a pass is open

	// Where to look for marks; what Badger deleted before takes time to go over. Only the
	// open pass uses them.
	firstDue     uint64    // no due mark is of an earlier pass
	firstWaiting time.Time // no mark waits for an earlier time

	// Look-ups and records agreed at the end of the last sweep, and do ever since: a full
	// pass reads no look-up of an object that did not change. Only the open pass uses it.
	ownersMatch bool

	unfinished map[originID]sighting // by passes that did not end, since the last one that did
}

// Open opens the store, waits for its lock, and finishes a pass that was decided but
// not released when the process ended.
func Open(ctx context.Context, config Config) (*Store, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.blockCache == 0 {
		config.blockCache = blockCacheSize
	}
	config.sums = &tableSums{by: map[string]uint32{}}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.memTable == 0 {
		config.memTable = memTableSize
	}
	if config.FreeSpace == nil {
		config.FreeSpace = freeSpace
	}
	if config.commit == nil {
		config.commit = func(txn *badger.Txn, ts uint64) error { return txn.CommitAt(ts, nil) }
	}
	config.MustExist = config.MustExist || config.ReadOnly
	if err := prepareDir(config); err != nil {
		return nil, err
	}
	s := &Store{config: config}
	if err := s.checkSpace(); err != nil {
		return nil, err
	}
	db, err := openLocked(ctx, config)
	if err != nil {
		return nil, err
	}
	s.db = db
	if err := s.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func prepareDir(config Config) error {
	info, err := os.Stat(config.Dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("store %s: it is not a directory; set store.dir to one", config.Dir)
	case err == nil && config.MustExist:
		if _, err := os.Stat(config.Dir + "/MANIFEST"); err != nil {
			return missingError(config.Dir, err)
		}
		return nil
	case err == nil:
		return nil
	case config.MustExist || !errors.Is(err, os.ErrNotExist):
		return missingError(config.Dir, err)
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return fmt.Errorf("store: cannot make its directory: %w", err)
	}
	return nil
}

// notThere says why no store was found in a directory. One that this user may not look
// into is another matter than none.
func missingError(dir string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("store %s: %w", dir, ErrMissing)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("store %s: %w; run this as root or as the account of the daemon", dir, err)
	}
	return fmt.Errorf("store %s: %w", dir, err)
}

// load reads what is kept in memory, and finishes decided passes.
func (s *Store) load() error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	s.writer.ts = s.db.MaxVersion()
	s.views.last = s.writer.ts
	if !s.config.ReadOnly {
		if err := s.loadCensus(); err != nil {
			return err
		}
	}
	t, err := s.newest().totals()
	if err != nil {
		return err
	}
	s.totals.Store(&t)
	s.state.nextPass = t.nextPass
	if err := s.loadDirectories(); err != nil {
		return err
	}
	if err := s.loadRemovals(); err != nil {
		return err
	}
	if s.older {
		if err := s.migrate(); err != nil {
			return err
		}
	}
	return s.finishDecidedPasses()
}

// Close waits for look-ups under way and closes the store. No pass may be open.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	for s.readers.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("store %s: close: %w", s.config.Dir, err)
	}
	return nil
}

// enter counts a reader in, unless the store is closed; leave counts it out. The
// memory that Badger reads from is unmapped by Close.
func (s *Store) beginRead() error {
	s.readers.Add(1)
	if s.closed.Load() {
		s.endRead()
		return ErrClosed
	}
	return nil
}

func (s *Store) endRead() { s.readers.Add(-1) }

// checkSpace refuses to go on below the floor.
func (s *Store) checkSpace() error {
	if s.config.MinFree == 0 || s.config.ReadOnly {
		return nil
	}
	free, err := s.config.FreeSpace(s.config.Dir)
	if err != nil {
		return fmt.Errorf("store %s: free space: %w", s.config.Dir, err)
	}
	if free < s.config.MinFree {
		return fmt.Errorf("store %s: %w: %d MiB are free and store.min_free asks for %d MiB; make room on that file system",
			s.config.Dir, ErrNoSpace, free>>20, s.config.MinFree>>20)
	}
	return nil
}

// unreadable words a record that this version cannot read.
func (s *Store) unreadable(key string, err error) error {
	return fmt.Errorf("store %s: %w: record %q: %w; %s", s.config.Dir, ErrDamaged, key, err, rebuildAdvice)
}

const rebuildAdvice = "move its directory away and start again: a full pass rebuilds it from the directories"
