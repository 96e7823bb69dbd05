package control

// SyncQuery asks for passes.
type SyncQuery struct {
	Full bool `json:"full"` // read everything, not only what changed
	Wait bool `json:"wait"` // until they have ended
}

// SyncEvent is one step of one pass.
type SyncEvent struct {
	Directory string      `json:"directory"`
	Kind      string      `json:"kind"`     // full or incremental
	Started   Time        `json:"started"`  // of the pass
	Seen      int64       `json:"seen"`     // objects read so far
	Expected  int64       `json:"expected"` // about how many there will be; 0: not known
	Pass      *PassStatus `json:"pass"`     // the pass has ended; null: it is under way
	Error     string      `json:"error"`    // of a pass that failed
}

// syncLine is one line of the answer to a SyncQuery: an event, or the end. Where the
// end is missing, the daemon went away in between.
type syncLine struct {
	Event *SyncEvent `json:"event,omitempty"`
	End   *syncEnd   `json:"end,omitempty"`
}

type syncEnd struct {
	Error string `json:"error"` // empty: what was asked for was done
}
