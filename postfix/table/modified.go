package table

import "time"

// FileAge is what the age of a file is judged by.
type FileAge struct {
	File     string
	Modified time.Time // modification time that the file had when the copy in effect was read
	Doubt    string    // why entries may be missing, as in FileStatus
}

// AllModified visits all files.
func (t *Files) AllModified(visit func(FileAge)) {
	for _, w := range *t.files.Load() {
		visit(FileAge{w.path, w.modified, w.doubt.text})
	}
}

// Modified visits the files that name a canonical domain, an address of it, or its targets as an
// alias, and those in doubt, which may have named it.
func (t *Files) Modified(domain string, visit func(FileAge)) {
	for _, w := range *t.files.Load() {
		if w.doubt.text != "" || w.table.byDomain[domain].entries() > 0 {
			visit(FileAge{w.path, w.modified, w.doubt.text})
		}
	}
}
