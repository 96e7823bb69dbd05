// Package store is the index on disk: the recipients, their owners, how far each directory
// has been read, and what changed when. It runs on Badger.
//
// # Contents
//
// keys.go lists the keys. The answer to a RCPT is one key, a/<address>: its owners, or the
// time when the last one went. An owner is a (directory, object) pair. Two directories that
// both have an object do not take its addresses from each other.
//
// # After a crash
//
// Everything up to the cursor is in the data. The data may be ahead of the cursor, and each
// step ahead is true by itself. A pass is many transactions, because it does not fit one:
//
//   - New addresses take effect as they are read.
//   - An address that is gone is only marked. It stays known until the pass has completed and
//     its removals have been judged.
//   - Then one transaction writes the redo record, which is the commit point.
//   - The marked addresses are released.
//   - A last transaction moves the cursor and deletes the redo record.
//
// Opening a store completes what a redo record has decided, without the directory. Marks of a
// pass that never completed are cleared when the next one begins.
//
// Each change of an object is one transaction: its record, lookups, journal, marks and counts
// agree after every commit. A change that does not fit a transaction is written in several
// steps, each of them sound.
//
// # Feed
//
// Each commit also updates a digest of the ownerships of its directory: see ownership.go. While
// the feed of a directory is on, a changed object enters the outbox in the transaction of the
// change: see feed.go, outbox.go.
//
// # Concurrency
//
// All methods of a Store may run concurrently. A lookup never waits for a pass, or
// for a commit to disk. It shares the lock of one shard of the census with the writer that enters
// the keys of a commit there. Each directory has at most one open pass; writers of different
// directories take turns batch by batch.
//
// # Consistency
//
// Lookup answers from memory, or reads one key at its newest version. Methods that read several
// keys (Verify, Recount, Describe, At, Stored, Owners, HeldRemovals, Addresses, History, Journal)
// see the store as of one commit, even during writes: see view.go.
//
// # Damage
//
// Badger treats what it cannot read as absent. The census, in census.go, holds in memory which
// commit last wrote each address and object. It distinguishes a hidden record from one that
// does not exist. A read of a hidden record is an error, for lookups and for writers, and ends
// all writing. Opening a store verifies all its files and reads their keys once for the census.
// The census also answers for addresses that have no record, and for open ones: see absence.go.
// What was lost without a trace in the files shows in m/commit and in the file COMMITTED: see
// commit_file.go. A damaged store is set aside: see reopen.go, aside.go.
//
// # Reading order
//
//  1. keys.go, record.go, directory.go: what is stored.
//  2. lookup.go: the answer to a RCPT.
//  3. pass.go, diff.go, marks.go: a pass writes additions and marks losses.
//  4. commit.go, held_removals.go: it releases or holds them, and moves the cursor.
//  5. judge.go: when a mark is due, with several controllers and directories.
//  6. tx.go, unit.go, badger.go: one transaction.
//  7. census.go, absence.go, verify.go, reopen.go: damage.
//  8. outbox.go, feed.go, feed_read.go: what a hub publishes.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	dirfiles "rcpt-milter/internal/files" // tests have a function files
)

// Errors that a caller distinguishes. The error around them names the store and the remedy.
var (
	ErrLocked   = errors.New("another process has the store open")
	ErrDamaged  = errors.New("the store is damaged")
	ErrNewer    = errors.New("the store was written by a newer version")
	ErrNoSpace  = errors.New("not enough free disk space")
	ErrClosed   = errors.New("the store is closed")
	ErrMissing  = errors.New("there is no store")
	ErrUnclean  = errors.New("the store was not closed cleanly")
	ErrReadOnly = errors.New("the store is open read-only")
	// ErrNotWritable is about the file system, for example after an error of the disk.
	ErrNotWritable = errors.New("its file system cannot be written")
)

// Config sets where the store is and what it may use.
type Config struct {
	// Dir is the directory of the store. Open creates a missing one with mode 0700.
	Dir string
	// MinFree is how many bytes must stay free on the file system, which also needs inodes for some
	// files: see minFreeFiles. Below it, nothing is written and, without KeepAnswering, nothing
	// opened: Badger writes through sparse memory maps, and a full disk would end the process
	// without an error. Zero means no limit.
	MinFree uint64
	// Key encrypts the store on disk with AES: 16, 24 or 32 bytes. Empty means no encryption.
	// With another key than that of the store, Open returns ErrWrongKey.
	Key []byte
	// LockWait is how long Open waits for another process to release the store. Zero means that
	// it does not wait.
	LockWait time.Duration
	// MustExist makes Open fail with ErrMissing instead of creating a store.
	MustExist bool
	// ReadOnly opens a store without writing or creating any file. The store must have been
	// closed cleanly; Open returns ErrUnclean if something has to be completed first. It implies
	// MustExist and no limit of free space.
	ReadOnly bool
	// Rebuild sets a damaged store aside and begins a new one: at opening, and when the next pass
	// begins after damage was found. Without it, a damaged store stays where it is.
	Rebuild bool
	// KeepAnswering makes Open return a store even if it cannot be written for lack of space or
	// on a read-only file system, or if it was rebuilt too often. It then answers what can be
	// read, or an error, until that has ended. See Health.
	KeepAnswering bool
	// FreeSpace returns how many bytes may still be written below a directory, to compare with
	// MinFree. Nil means to ask the file system.
	FreeSpace func(dir string) (uint64, error)
	// Log receives Badger's messages. Nil discards them.
	Log *slog.Logger
	// Progress is called again and again while Open verifies and reads the store, and may be
	// called later. Nil means that no caller waits for it.
	Progress func()
	// Now is the clock that stored times are compared with. Nil means time.Now.
	Now func() time.Time

	readersTimeout time.Duration // tests shorten it
	settle         time.Duration // tests; zero means settleTime
	blockCache     int64         // tests; zero means blockCacheSize
	memTable       int64         // tests; zero means memTableSize
	inline         int           // tests; zero means maxInline
	afterCommit    func(n int)   // tests: called after the n-th commit of this process

	touch      func(dir string) error // tests; nil means touch
	createFile func(dir string) error // tests; nil means createFile
	// tests: replaces (*badger.Txn).CommitAt
	commit func(txn *badger.Txn, ts uint64) error
	sums   *tableSums // set by Open
	trim   bool       // cut off what is not used of logs, so they can be opened read-only
}

// Store is an open index.
type Store struct {
	config Config
	db     *badger.DB

	damaged   atomic.Bool            // a record or a file is damaged: no more writes
	suspected atomic.Bool            // damaged only because a recount differed
	unsettled atomic.Bool            // a commit runs or has failed, so Badger may be unable to read: see catchFaults
	judging   sync.Mutex             // damaged and suspected change together
	closed    atomic.Bool            // no new reader may begin
	inDoubt   atomic.Pointer[string] // why the records may be older than they were; nil means that they are not
	readers   atomic.Int64           // running lookups, which Close waits for

	openAnswers atomic.Uint64 // answers from memory that an address is open: see spotCheck

	reopening    sync.Mutex
	epoch        atomic.Uint64             // how many stores were set aside while this one was open
	reopenDue    atomic.Bool               // before the next write: see reopen.go
	gate         atomic.Pointer[error]     // why nothing can be read now; nil means that it can
	notWritable  atomic.Pointer[error]     // the last result of checkWritable
	noFile       atomic.Pointer[error]     // the last result of checkCreate
	damage       atomic.Pointer[error]     // the first damage that was found; for Health
	replacedAt   atomic.Pointer[time.Time] // when this process set a store aside
	rebuildEnded atomic.Pointer[error]     // why there will be no further rebuild

	// The fields below change only while no reader is running and with the writer locked.
	older      bool        // open read-only, with an older format
	readOnly   bool        // no write is possible
	census     *census     // nil in a store that is open read-only for good
	commitFile *commitFile // nil in a read-only store
	views      views

	totals atomic.Pointer[totals] // as of the last commit; never changed in place
	losses lossCache              // for LostSince

	writer struct { // one batch at a time
		sync.Mutex
		ts       uint64 // of the last commit
		commits  int
		newDoubt bool         // the next commit stores the doubts
		closing  <-chan error // Badger is still closing, after closeTimeout
	}

	feeding sync.Mutex // held while a feed is switched on or off

	deciding sync.Mutex // held while a pass judges its removals and commits, see Decide
	deciders atomic.Int32

	state struct { // guards the fields below; never held while waiting for writer
		sync.Mutex
		nextPass   uint64
		dirs       map[string]*directory
		doubts     map[string]doubt // by directory, also of those that are not stored yet
		rebuilding bool             // no pass may begin
	}
}

// directory is the state of one directory, kept equal to d/ and c/.
type directory struct {
	record   directoryRecord
	cursor   cursorRecord
	removals removals // of its passes
	unread   bool     // the last pass read no controller: the directory is not in the configuration
	busy     bool     // a pass is open
	open     *Pass    // nil means that none is; its reading changes with the writer locked
	feed     feedRecord
	outbox   outboxStart

	certainFrom uint64 // the commit that ended the doubt

	// Where to begin to search for marks, because passing over keys that Badger deleted takes
	// time. Only the open pass uses these fields.
	firstDue     uint64    // no due mark is of an earlier pass
	firstWaiting time.Time // no mark waits for an earlier time

	// Lookups and records agreed at the end of the last sweep and do so since. A full pass then
	// reads no lookup of an object that did not change. Only the open pass uses it.
	ownersMatch bool

	unfinished map[originID]sighting // of passes that did not end, since the last one that did: see unfinished.go
}

// Open opens the store, waits for its lock, and completes a pass that was decided but not
// released when the previous process ended.
func Open(ctx context.Context, config Config) (*Store, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.blockCache == 0 {
		config.blockCache = blockCacheSize
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.memTable == 0 {
		config.memTable = memTableSize
	}
	if config.FreeSpace == nil {
		config.FreeSpace = dirfiles.FreeSpace
	}
	if config.touch == nil {
		config.touch = touch
	}
	if config.createFile == nil {
		config.createFile = createFile
	}
	if config.commit == nil {
		config.commit = func(txn *badger.Txn, ts uint64) error { return txn.CommitAt(ts, nil) }
	}
	if config.Progress == nil {
		config.Progress = func() {}
	}
	if config.readersTimeout == 0 {
		config.readersTimeout = readersTimeout
	}
	if config.settle == 0 {
		config.settle = settleTime
	}
	config.MustExist = config.MustExist || config.ReadOnly
	if err := prepareDir(config); err != nil {
		return nil, err
	}
	s := &Store{config: config}
	none := newTotals()
	s.totals.Store(&none)
	s.state.dirs = map[string]*directory{}
	if err := s.openFirst(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func prepareDir(config Config) error {
	info, err := os.Stat(config.Dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("store %s: not a directory; set store.dir to a directory", config.Dir)
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
		return fmt.Errorf("store: cannot create its directory: %w", err)
	}
	return nil
}

// missingError explains why there is no store in a directory. A directory that the user may not
// read is a different error.
func missingError(dir string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("store %s: %w", dir, ErrMissing)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("store %s: %w; run this command as root or with the account of the daemon", dir, err)
	}
	return fmt.Errorf("store %s: %w", dir, err)
}

// load reads what the store keeps in memory.
func (s *Store) load(last committed) error {
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
	s.checkAbsence(&t)
	s.state.nextPass = t.nextPass
	if err := s.loadDirectories(); err != nil {
		return err
	}
	if err := s.loadDoubt(); err != nil {
		return err
	}
	if !s.config.ReadOnly {
		if err := s.checkCommits(last); err != nil {
			return err
		}
	}
	return s.loadRemovals()
}

// Close waits for running lookups and closes the store. No pass may be open.
func (s *Store) Close() error {
	if s.closed.Load() {
		return nil
	}
	if s.reopenDue.Load() { // nothing can be written, or only after everything was read again
		s.config.Log.Info("what unfinished passes have read is not written; the next start allows for it")
	} else if err := s.saveUnfinished(); err != nil && !s.config.ReadOnly {
		s.config.Log.Info("cannot write what unfinished passes have read; the next start allows for it", "error", err)
	}
	if s.closed.Swap(true) {
		return nil
	}
	for s.readers.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	s.commitFile.close()
	s.commitFile = nil
	if s.db == nil {
		return nil
	}
	if err := cmp.Or(s.checkWritable(), s.checkCreate()); err != nil && !s.readOnly {
		// Badger would try forever to write what it has in memory. Its logs have that too.
		return fmt.Errorf("not closed, and the next start recovers it: %w", err)
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("store %s: close: %w", s.config.Dir, err)
	}
	return nil
}

// beginRead registers a reader, unless the store is closed or cannot be read; endRead removes it.
// Close unmaps the memory that Badger reads from.
func (s *Store) beginRead() error {
	s.readers.Add(1)
	switch why := s.gate.Load(); {
	case s.closed.Load():
		s.endRead()
		return ErrClosed
	case why != nil:
		s.endRead()
		return *why
	}
	return nil
}

func (s *Store) endRead() { s.readers.Add(-1) }

// minFreeFiles is how many files can still be created when the store is written. Badger has its next log and
// the tables of a compaction to create. If it cannot create a log, it cannot read either until it is opened again.
const minFreeFiles = 128

// checkSpace returns ErrNoSpace if less than MinFree is free, or if fewer than minFreeFiles can be created.
func (s *Store) checkSpace() error {
	if s.config.MinFree == 0 || s.config.ReadOnly { // read-only for good
		return nil
	}
	free, err := s.config.FreeSpace(s.config.Dir)
	if err != nil {
		return fmt.Errorf("store %s: free space: %w", s.config.Dir, err)
	}
	if free < s.config.MinFree {
		return fmt.Errorf("store %s: %w: %d MiB are free, store.min_free requires %d MiB; "+
			"free space on that file system", s.config.Dir, ErrNoSpace, free>>20, s.config.MinFree>>20)
	}
	if files, limited, err := dirfiles.FreeFiles(s.config.Dir); err == nil && limited && files < minFreeFiles {
		return fmt.Errorf("store %s: %w: %d inodes are free, the store requires %d; "+
			"remove files from that file system", s.config.Dir, ErrNoSpace, files, minFreeFiles)
	}
	return nil
}

// unreadable returns the error for a record that this version cannot read.
func (s *Store) unreadable(key string, err error) error {
	return fmt.Errorf("store %s: %w: record %q: %w; %s", s.config.Dir, ErrDamaged, key, err, damageAdvice)
}

// damageAdvice is what to do about a damaged store.
const damageAdvice = "with store.rebuild: auto, the next pass rebuilds it; otherwise " + rebuildAdvice

const rebuildAdvice = "move its directory away and start again: a full pass rebuilds it from the directories"
