package control

// SocketmapStatus counts the replies of the socketmap since the start.
type SocketmapStatus struct {
	OK       int64 `json:"ok"`
	NotFound int64 `json:"not_found"`
	Temp     int64 `json:"temp"` // the daemon could not tell
	Perm     int64 `json:"perm"` // malformed, or for a map of another name
}
