package daemon

import (
	"errors"
	"time"

	"rcpt-milter/internal/clock"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// fileAges judges accept files by the age of their copies in effect. The zero value judges none.
type fileAges struct {
	files *tables.Files
	max   time.Duration // accept_files_max_age; 0 means that no file is stale
	now   func() time.Time
}

// state returns the state of a file. A file dated in the future has no known age, so it is not fresh.
func (a fileAges) state(modified time.Time) policy.State {
	if a.max == 0 {
		return policy.Fresh
	}
	if age, known := clock.Elapsed(modified, a.now()); !known || age > a.max {
		return policy.Stale
	}
	return policy.Fresh
}

// stateOf returns the state of a file. A file that may lack entries counts as stale.
func (a fileAges) stateOf(f tables.FileAge) policy.State {
	if f.Doubt != "" {
		return policy.Stale
	}
	return a.state(f.Modified)
}

// freshness returns the state of the files that name a domain: stale if one of them is. A file that may lack
// entries may have named every domain, and comes before one that is old.
func (a fileAges) freshness(domain string) policy.Freshness {
	worst := policy.Freshness{State: policy.Fresh}
	if a.files == nil {
		return worst
	}
	a.files.Modified(domain, func(f tables.FileAge) {
		state := a.stateOf(f)
		if state.Rank() > worst.State.Rank() || f.Doubt != "" && worst.Doubt == "" {
			worst = policy.Freshness{State: state, File: f.File, Doubt: f.Doubt, Since: f.Modified}
		}
	})
	return worst
}

// states returns the states of all files, for the log.
func (a fileAges) states() (all []observedState) {
	a.files.AllModified(func(f tables.FileAge) {
		all = append(all, observedState{inFile, f.File, a.stateOf(f), f.Modified, func() error {
			if f.Doubt == "" {
				return nil
			}
			return errors.New(f.Doubt)
		}})
	})
	return all
}
