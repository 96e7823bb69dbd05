package store

import (
	"cmp"
	"errors"
	"fmt"
)

// formatVersion is the layout of keys.go and record.go. Format 2 had no digests of directories and
// no outbox. Format 1 also had no keys for single counts, and other h/ keys; migrate converts it.
const formatVersion = 3

// checkFormat rejects a store of a newer format and marks a new store with this one.
func (s *Store) checkFormat() error {
	value, err := s.get([]byte(keyFormat))
	if err != nil {
		return fmt.Errorf("store %s: %w", s.config.Dir, err)
	}
	if value == nil && s.config.ReadOnly {
		return fmt.Errorf("store %s: %w", s.config.Dir, ErrMissing)
	}
	if value == nil && s.db.MaxVersion() > 0 {
		return s.unreadable(keyFormat, errors.New("it is missing"))
	}
	if value == nil && s.readOnly {
		return fmt.Errorf("store %s: %w: it is empty", s.config.Dir, cmp.Or(s.writeObstacle(), ErrNoSpace))
	}
	if value == nil {
		txn := s.db.NewTransactionAt(s.db.MaxVersion(), true)
		defer txn.Discard()
		return errors.Join(txn.Set([]byte(keyFormat), formatValue()), txn.CommitAt(s.db.MaxVersion()+1, nil))
	}
	if value[0] > recordVersion {
		return fmt.Errorf("store %s: %w", s.config.Dir, newerError(uint64(value[0])))
	}
	d := newDecoder(value)
	v := d.uint()
	if d.err == nil && v > formatVersion {
		return fmt.Errorf("store %s: %w", s.config.Dir, newerError(v))
	}
	if d.err != nil {
		return s.unreadable(keyFormat, d.err)
	}
	unfinished := len(d.rest) > 0 // a conversion was interrupted: see migrate
	if unfinished && s.config.ReadOnly {
		return fmt.Errorf("store %s: %w: its conversion is not complete; start the daemon to complete it",
			s.config.Dir, ErrUnclean)
	}
	s.older = v < formatVersion || unfinished
	return nil
}

func newerError(found uint64) error {
	return fmt.Errorf("%w: its format is %d, this version supports up to %d; "+
		"install the newer rcpt-milter again, or %s", ErrNewer, found, formatVersion, rebuildAdvice)
}
