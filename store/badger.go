package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"
)

const (
	blockCacheSize = 8 << 20   // required with compression; small, as few lookups read a block
	logFileSize    = 16 << 20  // the value log stays empty: see parts.go
	valueThreshold = 600 << 10 // a value of this size goes into the value log; a tenth of a memory table
	lockRetry      = 100 * time.Millisecond
)

// The sizes below limit the memory of a first full pass: see docs/performance.md. Badger builds a table in buffers of
// 4, 8, 16 MiB and so on, as many as it needs for each block before and after compression. It
// keeps up to eight such sets, of the largest size that each of them had. With these sizes, 4 and 8 MiB are enough
// for a memory table and for a table of a compaction.
const (
	memTableSize = 6 << 20 // bounds a transaction to 0.9 MB and 9,830 entries
	tableSize    = 3 << 19
)

// Badger splits a compaction by the tables of the level below, and builds a table for each part at a time. It merges
// many tables of level 0 at a time into a level that is nearly empty, so there are few parts. The difference of
// the first two numbers is too small for Badger to merge tables of level 0 among themselves while it merges
// others: it builds a single table then, in memory.
const (
	level0Tables  = 12 // with so many, Badger merges them
	level0Stall   = 15 // with so many, commits wait
	baseLevelSize = 4 << 20
)

func badgerOptions(config Config) badger.Options {
	o := badger.DefaultOptions(config.Dir).
		WithLogger(badgerLog{config.Log}).
		WithSyncWrites(true). // a cursor on disk means that its data is on disk
		// Never accept the content of a damaged block. Badger's own check of whole tables at
		// opening ends the process; verifyFiles does that check instead.
		WithChecksumVerificationMode(options.OnBlockRead).
		WithVerifyValueChecksum(true).
		WithDetectConflicts(false). // one writer at a time
		WithNumVersionsToKeep(1).
		WithMemTableSize(config.memTable).
		WithNumMemtables(1).
		WithBaseTableSize(tableSize).
		WithNumLevelZeroTables(level0Tables).
		WithNumLevelZeroTablesStall(level0Stall).
		WithBaseLevelSize(baseLevelSize).
		WithValueLogFileSize(logFileSize).
		WithValueThreshold(min(valueThreshold, config.memTable/10)). // smaller than a transaction
		WithBlockCacheSize(config.blockCache).
		WithCompression(options.ZSTD).
		WithNumCompactors(2).
		WithReadOnly(config.ReadOnly).
		WithMetricsEnabled(false)
	// By default Badger makes the tables of deeper levels larger as the store grows, and builds
	// a dozen of them in memory at a time. With 5 million addresses that takes 1.2 GB for some
	// seconds, twice as much as with tables of one size.
	o.TableSizeMultiplier = 1
	if len(config.Key) > 0 {
		o = o.WithEncryptionKey(config.Key).WithIndexCacheSize(indexCacheSize) // required together
	}
	return o
}

// openLocked opens Badger in managed mode and waits while another process holds the lock. In
// managed mode a reader never waits for commits in flight.
func openLocked(ctx context.Context, config Config) (*badger.DB, error) {
	deadline := time.Now().Add(config.LockWait)
	for {
		db, err := openVerified(config)
		if !isLocked(err) {
			return db, err
		}
		if !time.Now().Before(deadline) {
			return nil, fmt.Errorf("store %s: %w; stop that process, or set another store.dir", config.Dir, ErrLocked)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockRetry):
		}
	}
}

// openVerified checks the files under the lock that Badger will take, then opens them.
func openVerified(config Config) (*badger.DB, error) {
	dir, err := os.Open(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer dir.Close()
	lock := unix.LOCK_EX
	if config.ReadOnly && !config.trim {
		lock = unix.LOCK_SH
	}
	if err := unix.Flock(int(dir.Fd()), lock|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("store %s: lock: %w", config.Dir, err)
	}
	if err := prepareFiles(config); err != nil {
		return nil, err
	}
	if config.memTable, err = memTableFor(config); err != nil {
		return nil, fmt.Errorf("store %s: %w", config.Dir, err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_UN); err != nil {
		return nil, fmt.Errorf("store %s: unlock: %w", config.Dir, err)
	}
	if config.ReadOnly && !config.trim {
		if err := checkCleanShutdown(config.Dir); err != nil {
			return nil, err
		}
	}
	db, err := openManaged(badgerOptions(config))
	if err != nil && !isLocked(err) {
		return nil, openError(config.Dir, err)
	}
	return db, err
}

// prepareFiles verifies the files. Unless the store is opened read-only for good, it also
// completes what an earlier process has begun with them.
func prepareFiles(config Config) error {
	changes := !config.ReadOnly || config.trim
	if changes {
		if err := finishSetAside(config.Dir); err != nil {
			return fmt.Errorf("store %s: %w", config.Dir, err)
		}
	}
	if err := verifyFiles(config); err != nil || !changes {
		return err
	}
	err := removeEmptyLogs(config.Dir)
	if err == nil && config.trim {
		err = trimLogs(config.Dir)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", config.Dir, err)
	}
	return nil
}

// formerMemTableSize is the size of the memory tables of earlier versions, at most.
const formerMemTableSize = 16 << 20

// memTableFor returns the size of the memory tables. Badger reads the logs that a killed process left into tables of
// this size, and ends the process if a log does not fit. An earlier version had larger tables. Badger makes
// each log twice as large as its table, and cuts it when it reads it again.
func memTableFor(config Config) (int64, error) {
	if config.memTable >= formerMemTableSize {
		return config.memTable, nil
	}
	logs, err := filepath.Glob(filepath.Join(config.Dir, "*.mem"))
	if err != nil {
		return 0, err
	}
	for _, log := range logs {
		info, err := os.Stat(log)
		if err != nil {
			return 0, err
		}
		if info.Size() != 2*config.memTable {
			return formerMemTableSize, nil
		}
	}
	return config.memTable, nil
}

// removeEmptyLogs removes logs of memory tables and of values that are empty. A process that is
// killed between creating such a file and setting its size leaves one. Badger treats it as
// damage, though there is no data in it to lose.
func removeEmptyLogs(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		logs, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, log := range logs {
			if info, err := os.Stat(log); err != nil || info.Size() > 0 {
				continue
			}
			if err := os.Remove(log); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkCleanShutdown returns ErrUnclean unless the previous process closed the store. Closing
// writes all memory tables to disk and leaves no log of one.
func checkCleanShutdown(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil || len(left) == 0 {
		return err
	}
	return fmt.Errorf("store %s: %w; start the daemon to recover it", dir, ErrUnclean)
}

// openManaged turns Badger's panics at damaged files into errors.
func openManaged(opts badger.Options) (db *badger.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%v", p)
		}
	}()
	return badger.OpenManaged(opts)
}

func isLocked(err error) bool {
	return err != nil && (errors.Is(err, syscall.EWOULDBLOCK) ||
		strings.Contains(err.Error(), "Cannot acquire directory lock"))
}

// openError explains why Badger cannot open its files. Every error that is not about permissions
// or resources is damage.
func openError(dir string, err error) error {
	for _, plain := range []error{
		syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EINTR,
	} {
		if errors.Is(err, plain) || strings.Contains(err.Error(), plain.Error()) {
			return fmt.Errorf("store %s: open: %w", dir, err)
		}
	}
	return damageError(dir, err)
}

// badgerLog forwards Badger's messages. Badger's information level only helps to debug the
// store, so it becomes debug. Badger's debug level has several lines for each commit and only
// helps to debug Badger, so it is dropped.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, args ...any)   { l.write(slog.LevelError, f, args) }
func (l badgerLog) Warningf(f string, args ...any) { l.write(slog.LevelWarn, f, args) }
func (l badgerLog) Infof(f string, args ...any)    { l.write(slog.LevelDebug, f, args) }
func (l badgerLog) Debugf(string, ...any)          {}

func (l badgerLog) write(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}
