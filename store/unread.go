package store

// UnreadValue is a value of a directory that is meant as an SMTP address and should be
// corrected: it cannot be read, or not as a reader would take it.
type UnreadValue struct {
	Attribute string
	Value     string // as the directory holds it; the store cuts long ones
	Reason    string // what is wrong, and what to do about it
}
