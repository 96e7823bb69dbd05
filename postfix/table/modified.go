package table

import "time"

// AllModified visits all files, each with the modification time that it had when the copy in
// effect was read.
func (t *Files) AllModified(visit func(file string, modified time.Time)) {
	for _, w := range *t.files.Load() {
		visit(w.path, w.modified)
	}
}

// Modified is AllModified for the files that name a canonical domain, an address of it, or its
// targets as an alias.
func (t *Files) Modified(domain string, visit func(file string, modified time.Time)) {
	for _, w := range *t.files.Load() {
		if w.table.byDomain[domain].entries() > 0 {
			visit(w.path, w.modified)
		}
	}
}
