package policy

import "time"

// State says how far the index can be trusted about a directory or a domain. A value that
// is not one of the constants, also the zero value, is as bad as NotReady.
type State string

const (
	NotReady State = "not_ready" // no full pass of some directory ever completed
	Widening State = "widening"  // the rules of what a recipient is were widened; the full pass is not done
	Fresh    State = "fresh"     // the last good pass is recent
	Late     State = "late"      // it is older than late_after; answers are as when fresh
	Stale    State = "stale"     // it is older than stale_after; nothing is rejected as unknown
)

// Rank orders states from best to worst. A value that is not one of the constants is worse
// than all of them.
func (s State) Rank() int {
	for rank, known := range [...]State{Fresh, Late, Stale, Widening, NotReady} {
		if s == known {
			return rank
		}
	}
	return 5
}

// Ready reports whether the index holds the result of a full pass.
func (s State) Ready() bool { return s == Fresh || s == Late || s == Stale }

// Freshness is the worst state among the directories that may own a domain, and the files that
// name it.
type Freshness struct {
	State     State
	Directory string    // the directory in this state; empty: none in particular
	File      string    // the accept file in this state, in place of a directory; empty: none
	Since     time.Time // start of the last good pass, or modification of the file; zero: never, or not known
}
