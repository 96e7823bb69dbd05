package store

// Decide runs decide, which judges the removals of a pass and commits it, for one directory at a
// time. If two directories lose the last addresses of a domain at once, the second one is judged
// by what the first one left. Decide returns the error of decide.
func (s *Store) Decide(decide func() error) error {
	s.deciders.Add(1)
	defer s.deciders.Add(-1)
	s.deciding.Lock()
	defer s.deciding.Unlock()
	return decide()
}

// Deciders returns how many callers run Decide or wait for their turn.
func (s *Store) Deciders() int { return int(s.deciders.Load()) }
