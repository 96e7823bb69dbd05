package store

// Decide runs what judges the removals of a pass and commits it, one at a time of all
// directories: of two that lose the last addresses of a domain at once, the second one is
// judged by what the first one left. It returns the error of decide.
func (s *Store) Decide(decide func() error) error {
	s.deciders.Add(1)
	defer s.deciders.Add(-1)
	s.deciding.Lock()
	defer s.deciding.Unlock()
	return decide()
}

// Deciders is how many decide or wait for their turn.
func (s *Store) Deciders() int { return int(s.deciders.Load()) }
