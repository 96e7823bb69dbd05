package control

// Reloaded is what became of the configuration file when it was read again.
type Reloaded struct {
	// Refused is why the file is not in force, a sentence a line; empty: it is.
	Refused string `json:"refused"`
	// Changed are the keys whose new values are in force.
	Changed []string `json:"changed"`
	// Restart are the keys whose new values need a restart: the old ones are in force.
	Restart []string `json:"restart"`
}

// normal makes empty lists of missing ones, so that tools see one form.
func (r Reloaded) normal() Reloaded {
	r.Changed, r.Restart = append([]string{}, r.Changed...), append([]string{}, r.Restart...)
	return r
}
