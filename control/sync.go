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
