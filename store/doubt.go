package store

// DoubtLastGood records that the start of the last committed pass was found to be in the future.
// It does not tell how old the index is, even after the clock has reached it, until another pass
// commits. For an unknown directory it does nothing. It must not be called while a pass is open.
func (s *Store) DoubtLastGood(name string) error {
	return s.write(func(t *tx) error {
		s.state.Lock()
		d := s.state.dirs[name]
		s.state.Unlock()
		if d == nil {
			return nil
		}
		record := d.record
		if record.doubted == record.lastPass() {
			return nil
		}
		record.doubted = record.lastPass()
		u := &unit{}
		u.setDirectory(name, d, record)
		return t.add(u)
	})
}
