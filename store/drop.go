package store

import "fmt"

// Drop deletes a directory, except its journal. If the directory still owns something, Drop
// keeps it and returns false. For an unknown directory it returns true.
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
		left, err := s.readChunk(dirKey(prefix, d.record.id), dirKey(prefix, d.record.id), true)
		if err != nil || len(left) > 0 {
			return false, err
		}
	}
	if err := s.SetFeed(name, false); err != nil {
		return false, err
	}
	err = s.write(func(t *tx) error {
		u := &unit{}
		// No later pass may get the number of one of its passes.
		u.delta.nextPass = d.record.lastPass() + 1
		u.delete([]byte(prefixDirectory + name))
		u.delete(dirKey(prefixCursor, d.record.id))
		u.setHeldDomains(d.record.id, d.record.held, heldDomains{})
		for i := range d.record.origins {
			u.delete(originKey(d.record.id, originID(i+1)))
		}
		s.setDoubt(u, name, nil)
		u.delete(dirKey(prefixFeed, d.record.id))
		u.afterCommit(func() { delete(s.state.dirs, name) })
		return t.add(u)
	})
	return err == nil, err
}

// claimIdle claims a directory that has no open pass. Nil means that the directory does not
// exist.
func (s *Store) claimIdle(name string) (*directory, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	s.state.Lock()
	defer s.state.Unlock()
	d := s.state.dirs[name]
	if s.state.rebuilding {
		return nil, fmt.Errorf("store %s: %w", s.config.Dir, errReopening)
	}
	if d == nil {
		return nil, nil
	}
	if d.busy {
		return nil, fmt.Errorf("directory %s: %w", name, ErrBusy)
	}
	d.busy = true
	return d, nil
}
