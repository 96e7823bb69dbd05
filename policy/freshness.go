package policy

import "time"

// State describes how far the index can be trusted about a directory or a domain. Any value other than the
// constants, including the zero value, ranks below NotReady.
type State string

const (
	NotReady State = "not_ready" // some directory has never completed a full pass
	Widening State = "widening"  // the rules for recipients were widened, and the full pass is not complete yet
	Fresh    State = "fresh"     // the last good pass is recent
	Late     State = "late"      // the last good pass is older than late_after; answers are the same as for Fresh
	Stale    State = "stale"     // the last good pass is older than stale_after; nothing is rejected as unknown
)

// Rank orders states, from 0 for the best. A value other than the constants ranks below all of them.
func (s State) Rank() int {
	for rank, known := range [...]State{Fresh, Late, Stale, Widening, NotReady} {
		if s == known {
			return rank
		}
	}
	return 5
}

// Ready reports whether the index has the result of a full pass.
func (s State) Ready() bool { return s == Fresh || s == Late || s == Stale }

// Freshness is the worst state among the directories that may own a domain and the accept files that name it.
type Freshness struct {
	State     State
	Directory string    // the directory in this state; empty: none in particular
	File      string    // the accept file in this state, in place of a directory; empty: none
	Doubt     string    // why File may lack entries; empty: it is too old
	Since     time.Time // start of the last good pass, or modification of the file; zero: never, or not known
}
