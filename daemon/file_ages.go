package daemon

import (
	"time"

	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// fileAges judges accept files by the age of their copies in effect. The zero value judges none.
type fileAges struct {
	files *tables.Files
	max   time.Duration // accept_files_max_age; 0 means that no file is stale
	now   func() time.Time
}

// state returns the state of a file. The age of one from the future is not known, so it is not
// fresh.
func (a fileAges) state(modified time.Time) policy.State {
	if a.max == 0 {
		return policy.Fresh
	}
	if age := a.now().Sub(modified); age < 0 || age > a.max {
		return policy.Stale
	}
	return policy.Fresh
}

// freshness returns the state of the files that name a domain: stale if one of them is.
func (a fileAges) freshness(domain string) policy.Freshness {
	worst := policy.Freshness{State: policy.Fresh}
	if a.max == 0 {
		return worst
	}
	a.files.Modified(domain, func(file string, modified time.Time) {
		if state := a.state(modified); state.Rank() > worst.State.Rank() {
			worst = policy.Freshness{State: state, File: file, Since: modified}
		}
	})
	return worst
}

// states returns the states of all files, for the log.
func (a fileAges) states() (all []observedState) {
	a.files.AllModified(func(file string, modified time.Time) {
		all = append(all, observedState{inFile, file, a.state(modified), modified, func() error { return nil }})
	})
	return all
}
