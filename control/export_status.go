package control

// ExportStatus is the state of the file that the daemon keeps current (export).
type ExportStatus struct {
	File    string `json:"file"`
	Format  string `json:"format"`
	Entries int64  `json:"entries"` // of the last list; 0 before the first one
	Written Time   `json:"written"` // when the list changed last; null means not since the start
	Current Time   `json:"current"` // when the file was the present list last; null means not since the start
	Held    string `json:"held"`    // why the last good file stays for now; empty means it does not
	Union   string `json:"union"`   // why the file also has all entries of the last list; empty means it does not
	Kept    int64  `json:"kept"`    // entries that only the last list had; 0 without union
	Trouble string `json:"trouble"` // why the file or its command failed, with the remedy; empty means it did not
	Since   Time   `json:"since"`   // start of the trouble
}

// ExportTrouble returns the trouble of the export as a sentence; empty means none.
func (s Status) ExportTrouble() string {
	if s.Export == nil || s.Export.Trouble == "" {
		return ""
	}
	return "export " + s.Export.File + " fails: " + s.Export.Trouble
}
