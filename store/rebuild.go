package store

import (
	"errors"
	"fmt"
	"time"
)

// errReplaced is the error of a miss right after a store was set aside.
var errReplaced = errors.New("the store was set aside as damaged and is being rebuilt")

// settleTime is how long a miss is an error after a store was set aside. A decision that began
// before that treated the directories as fresh. No decision takes so long.
const settleTime = time.Minute

// setAside moves the files of a store that is not open.
func (s *Store) setAside() error {
	moved, err := setAside(s.config.Dir, s.config.Now())
	if err != nil {
		return s.asideError(err)
	}
	s.config.Log.Error("damaged store set aside; a full pass of each directory builds a new one, until then "+
		"recipients are deferred", "store", s.config.Dir, "moved_to", moved, "error", valueOf(s.damage.Load()))
	return nil
}

// asideError explains why a damaged store stays where it is.
func (s *Store) asideError(err error) error {
	err = fmt.Errorf("store %s: %w and cannot be set aside: %w", s.config.Dir, ErrDamaged, err)
	if errors.Is(err, ErrRebuiltTooOften) && s.rebuildEnded.CompareAndSwap(nil, &err) {
		s.config.Log.Error("no further rebuild of the store", "error", err)
	}
	return err
}

// rebuildFor sets a damaged store aside for a pass that is going to read a controller. Any other one could build no new
// store, and the damaged one answers what it has, so it returns an error.
func (s *Store) rebuildFor(origin Origin) error {
	if origin.Controller == "" || origin.settlesHeld {
		return s.damageOrNil()
	}
	return s.rebuildIfDamaged()
}

// rebuildIfDamaged sets a damaged store aside when a pass begins. While passes of other
// directories are open, it returns an error; they end at their next write.
func (s *Store) rebuildIfDamaged() error {
	if !s.damaged.Load() || !s.config.Rebuild {
		return nil
	}
	// After a failed commit Badger may be unable to read what is sound on the disk, even if it did not close then.
	if s.reopenDue.Load() && (s.gate.Load() == nil || s.unsettled.Load()) {
		if err := s.prepareWrite(); !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	if why := s.rebuildEnded.Load(); why != nil {
		return *why
	}
	if s.suspected.Load() { // a single read may have been wrong
		if err := s.Verify(); err == nil {
			return nil
		}
	}
	if err := checkAsideLimit(s.config.Dir, s.config.Now()); err != nil {
		return s.asideError(err)
	}
	if err := s.claimAll(); err != nil {
		return err
	}
	defer s.releaseAll()
	if !s.damaged.Load() { // another pass was faster
		return nil
	}
	return s.reopen(func() error {
		if err := s.setAside(); err != nil {
			return err
		}
		s.forgetAll()
		return nil
	})
}

// claimAll makes sure that no pass is open and that none begins.
func (s *Store) claimAll() error {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.rebuilding {
		return fmt.Errorf("store %s: %w", s.config.Dir, errReopening)
	}
	for name, d := range s.state.dirs {
		if d.busy {
			return fmt.Errorf("store %s: %w when the pass of directory %s has ended", s.config.Dir, errReopening, name)
		}
	}
	s.state.rebuilding = true
	return nil
}

// releaseAll ends claimAll.
func (s *Store) releaseAll() {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.rebuilding = false
}

// forgetAll empties what the store keeps in memory, for a new store.
func (s *Store) forgetAll() {
	now := time.Now()
	s.replacedAt.Store(&now)
	s.damage.Store(nil)
	none := newTotals()
	s.totals.Store(&none)
	s.losses.forget()
	s.state.Lock()
	defer s.state.Unlock()
	s.epoch.Add(1)
	s.state.dirs, s.state.doubts = map[string]*directory{}, nil
	s.state.nextPass = 1
	s.writer.newDoubt = false
}

// missIsUncertain returns the error of a miss right after a store was set aside.
func (s *Store) missIsUncertain() error {
	at := s.replacedAt.Load()
	if at == nil || time.Since(*at) >= s.config.settle {
		return nil
	}
	return fmt.Errorf("store %s: %w", s.config.Dir, errReplaced)
}

// Epoch changes when a store is set aside. What was read of a directory in an earlier epoch no
// longer holds.
func (s *Store) Epoch() uint64 { return s.epoch.Load() }
