package control

// SyncQuery starts passes.
type SyncQuery struct {
	Full bool `json:"full"` // read all objects, not only changes
	Wait bool `json:"wait"` // wait until they have ended
}

// SyncEvent is the progress of one pass.
type SyncEvent struct {
	Directory string      `json:"directory"`
	Kind      string      `json:"kind"`     // full or incremental
	Started   Time        `json:"started"`  // of the pass
	Seen      int64       `json:"seen"`     // objects read so far
	Expected  int64       `json:"expected"` // estimate; 0 if not known
	Pass      *PassStatus `json:"pass"`     // the ended pass; null while it is running
	Error     string      `json:"error"`    // of a failed pass
}
