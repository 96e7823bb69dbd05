package control

// Reloaded is the result of a reload.
type Reloaded struct {
	// Refused has the errors of the file, one a line; empty if it is in effect.
	Refused string `json:"refused"`
	// Changed are the keys whose new values are in effect.
	Changed []string `json:"changed"`
	// Restart are the keys whose new values need a restart; the old ones are in effect.
	Restart []string `json:"restart"`
	// AcceptFiles are the accept files with another number of entries than before, a sentence each.
	AcceptFiles []string `json:"accept_files"`
}

// normal replaces missing lists with empty ones.
func (r Reloaded) normal() Reloaded {
	r.Changed, r.Restart = append([]string{}, r.Changed...), append([]string{}, r.Restart...)
	r.AcceptFiles = append([]string{}, r.AcceptFiles...)
	return r
}
