package store

import (
	"errors"
	"fmt"
)

// Drop forgets a directory, unless it still owns something, which it reports as false.
// Its journal stays. One that the store never heard of is forgotten already.
func (s *Store) Drop(name string) (bool, error) {
	d, err := s.claimIdle(name)
	if err != nil || d == nil {
		return err == nil, err
	}
	defer func() {
		s.state.Lock()
		d.busy = false
		s.state.Unlock()
	}()
	for _, prefix := range []string{prefixObject, prefixMarked, prefixRedo} {
		left, err := s.chunk(dirKey(prefix, d.record.id), dirKey(prefix, d.record.id), true)
		if err != nil || len(left) > 0 {
			return false, err
		}
	}
	err = s.write(func(t *tx) error {
		// No later pass may take the number of one of its passes.
		t.totals.nextPass = max(t.totals.nextPass, d.record.lastPass()+1)
		t.counted = true
		return errors.Join(t.delete([]byte(prefixDirectory+name)), t.delete(dirKey(prefixCursor, d.record.id)))
	})
	if err != nil {
		return false, err
	}
	s.state.Lock()
	defer s.state.Unlock()
	delete(s.state.dirs, name)
	return true, nil
}

// claimIdle takes a directory of which no pass is open; nil: there is none of the name.
func (s *Store) claimIdle(name string) (*directory, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if d == nil {
		return nil, nil
	}
	if d.busy {
		return nil, fmt.Errorf("directory %s: %w", name, ErrBusy)
	}
	d.busy = true
	return d, nil
}
