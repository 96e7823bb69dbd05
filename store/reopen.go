package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// A running store closes and opens Badger again in three cases:
//
//   - A commit failed. Badger may have it in memory and not on disk, or the reverse, and may be
//     unable to take another one. Reopening reads everything again, before the next write.
//     Running passes end at their next write.
//   - It was opened below Config.MinFree or on a read-only file system, so it cannot be written,
//     and now it can.
//   - It is damaged: the files are set aside, and a new store begins. That happens when a pass
//     begins, because then there is a directory to read from. Until then the damaged store
//     answers what it can.
//
// Meanwhile the gate is shut: every read returns an error, which means "cannot tell".

// errReopening is the error of reads while the store is reopened.
var errReopening = errors.New("it is opened again")

// errOlderFormat is the reason why a store that cannot be written is not opened at all.
var errOlderFormat = errors.New("its format is older, so it has to be converted first")

// readersTimeout is how long reopening waits for commands that read the store. Meanwhile nothing
// else is answered.
const readersTimeout = 2 * time.Second

// closeTimeout limits how long reopening waits for Badger to close. Badger retries forever what
// it cannot write.
const closeTimeout = 20 * time.Second

// openFirst opens the store for Open.
func (s *Store) openFirst(ctx context.Context) error {
	err := s.openComplete(ctx)
	if errors.Is(err, ErrDamaged) && s.config.Rebuild && !s.config.ReadOnly {
		s.noteDamage(err)
		if err = s.setAside(); err == nil {
			s.damaged.Store(false)
			s.damage.Store(nil)
			err = s.openComplete(ctx)
		}
	}
	if err == nil || !s.config.KeepAnswering || s.older || errors.Is(err, errOlderFormat) {
		return err // reopening does not convert a store
	}
	if !isObstacle(err) && !(errors.Is(err, ErrDamaged) && s.config.Rebuild) {
		return err
	}
	s.config.Log.Error("store not opened; recipients are deferred", "error", err)
	s.damaged.Store(errors.Is(err, ErrDamaged))
	s.shut(err)
	return nil
}

// openComplete opens the store and completes what an earlier process had begun.
func (s *Store) openComplete(ctx context.Context) error {
	err := s.openFiles(ctx)
	if err != nil {
		return err
	}
	if s.older {
		err = s.migrate()
	}
	if err == nil {
		err = s.loadUnfinished()
	}
	if err == nil && s.readOnly == s.config.ReadOnly { // otherwise the next pass completes it
		err = s.finishDecidedPasses()
	}
	if err == nil || s.config.KeepAnswering && isObstacle(err) && !s.older {
		return nil
	}
	s.commitFile.close()
	db := s.db
	s.commitFile, s.db = nil, nil
	return errors.Join(err, db.Close())
}

// openFiles opens Badger and reads what the store keeps in memory. If it cannot be written, it
// opens a store read-only that is to keep answering.
func (s *Store) openFiles(ctx context.Context) (err error) {
	config := s.config
	obstacle := s.writeObstacle()
	if obstacle != nil && (!config.KeepAnswering || !isObstacle(obstacle)) {
		return obstacle
	}
	if obstacle != nil {
		config.ReadOnly, config.trim = true, errors.Is(obstacle, ErrNoSpace)
		if prepareDir(withMustExist(config)) != nil {
			return obstacle // nothing to answer from
		}
	}
	config.sums = &tableSums{by: map[string]uint32{}}
	next := &Store{config: s.config, readOnly: config.ReadOnly}
	next.config.sums = config.sums
	if next.db, err = openLocked(ctx, config); err != nil {
		if obstacle != nil && errors.Is(err, ErrUnclean) {
			err = fmt.Errorf("%w; until then it cannot be read, because its last process did not close it", obstacle)
		}
		return err
	}
	if err = next.readMemory(); err == nil && obstacle != nil && next.older {
		err = fmt.Errorf("%w (%w)", obstacle, errOlderFormat)
	}
	if err != nil {
		next.commitFile.close()
		return errors.Join(err, next.db.Close())
	}
	s.adopt(next)
	if obstacle != nil {
		what := "too little disk space; the index answers and is not updated"
		if errors.Is(obstacle, ErrNotWritable) {
			what = "file system not writable; the index answers and is not updated"
		}
		s.config.Log.Error(what, "error", obstacle)
		s.reopenDue.Store(true)
	}
	return nil
}

// readMemory reads what a store that was just opened keeps in memory.
func (s *Store) readMemory() (err error) {
	var last committed
	if !s.config.ReadOnly {
		if s.commitFile, last, err = openCommitFile(s.config.Dir, s.readOnly); err != nil {
			return openError(s.config.Dir, err)
		}
	}
	return s.load(last)
}

// adopt takes over what was opened. No reader, writer or pass may be running.
func (s *Store) adopt(next *Store) {
	if next.writer.ts < s.writer.ts || next.inDoubt.Load() != nil {
		s.epoch.Add(1) // what mirrors remember of their directories holds no longer
	}
	s.config.sums, s.db, s.census, s.commitFile = next.config.sums, next.db, next.census, next.commitFile
	s.older, s.readOnly = next.older, next.readOnly
	s.writer.ts, s.writer.newDoubt = next.writer.ts, next.writer.newDoubt
	s.totals.Store(next.totals.Load())
	s.losses.forget()
	s.views.Lock()
	s.views.last = next.views.last
	s.views.Unlock()
	s.state.Lock()
	defer s.state.Unlock()
	for name, d := range next.state.dirs {
		if before := s.state.dirs[name]; before != nil && before.record.id == d.record.id {
			d.unfinished, d.unread = before.unfinished, before.unread
		}
	}
	s.state.doubts = next.state.doubts
	s.state.dirs, s.state.nextPass = next.state.dirs, max(s.state.nextPass, next.state.nextPass)
	s.noteDoubts()
}

func withMustExist(config Config) Config {
	config.MustExist = true
	return config
}

// noteDamage keeps the first damage of a store.
func (s *Store) noteDamage(err error) {
	if s.damage.CompareAndSwap(nil, &err) {
		s.config.Log.Error("store damaged", "store", s.config.Dir, "error", err)
	}
}

// shut makes every read return an error.
func (s *Store) shut(why error) {
	s.reopenDue.Store(true)
	s.gate.Store(&why)
}

// prepareWrite reopens the store if that is due. The caller does not hold the writer lock.
func (s *Store) prepareWrite() error {
	if !s.reopenDue.Load() {
		return nil
	}
	if err := s.writeObstacle(); err != nil {
		return err
	}
	if why := s.rebuildEnded.Load(); why != nil {
		return *why
	}
	if err := s.claimAll(); err != nil {
		return err
	}
	defer s.releaseAll()
	return s.reopen(nil)
}

// reopen closes Badger, calls between, opens it again and reads everything.
func (s *Store) reopen(between func() error) error {
	s.reopening.Lock()
	defer s.reopening.Unlock()
	if between == nil && !s.reopenDue.Load() { // another writer was faster
		return nil
	}
	before := s.gate.Load()
	s.shut(fmt.Errorf("store %s: %w", s.config.Dir, errReopening))
	for late := time.Now().Add(s.config.readersTimeout); s.readers.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(late) { // for example an export whose client does not read
			s.gate.Store(before)
			return fmt.Errorf("store %s: %w when a command that reads it has ended", s.config.Dir, errReopening)
		}
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	err := s.closeFiles()
	if err == nil && between != nil {
		err = between()
	}
	if err == nil {
		s.damaged.Store(false)
		s.suspected.Store(false)
		s.unsettled.Store(false)
		s.reopenDue.Store(false)
		err = s.openFiles(context.Background())
	}
	if err != nil {
		s.config.Log.Error("store not opened again; recipients are deferred", "error", err)
		if errors.Is(err, ErrDamaged) {
			s.damaged.Store(true)
			s.noteDamage(err)
		}
		s.shut(err)
		return err
	}
	s.damage.Store(nil)
	s.noFile.Store(nil)
	s.gate.Store(nil)
	s.config.Log.Info("store opened again", "addresses", s.totals.Load().addresses)
	return nil
}

// closeFiles closes Badger. An error of closing does not matter: what is on disk decides.
func (s *Store) closeFiles() error {
	s.commitFile.close()
	s.commitFile = nil
	if s.db == nil && s.writer.closing == nil {
		return nil
	}
	if s.writer.closing == nil {
		closed := make(chan error, 1)
		go func(db *badger.DB) {
			var err error
			defer func() { closed <- err }()
			defer s.catchFaults(&err)() // the files may be damaged
			err = db.Close()
		}(s.db)
		s.db, s.writer.closing = nil, closed
	}
	select {
	case err := <-s.writer.closing:
		s.writer.closing = nil
		if err != nil {
			s.config.Log.Warn("store not closed cleanly", "error", err)
		}
		return nil
	case <-time.After(closeTimeout):
		return fmt.Errorf("store %s: Badger cannot write what it has in memory and does not close", s.config.Dir)
	}
}
