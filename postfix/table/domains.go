package table

import "bytes"

// NamesDomain reports whether the table names a canonical domain or an address of it.
func (t *Table) NamesDomain(domain string) bool { return t.named[domain] }

// domainsNamed returns the domains of all keys.
func (t *Table) domainsNamed() map[string]bool {
	named := map[string]bool{}
	for _, e := range t.entries {
		key := t.key(e)
		if domain := key[bytes.LastIndexByte(key, '@')+1:]; !named[string(domain)] {
			named[string(domain)] = true
		}
	}
	return named
}

// NamesDomain reports whether a file names a canonical domain or an address of it.
func (t *Files) NamesDomain(domain string) bool {
	for _, w := range *t.files.Load() {
		if w.table.NamesDomain(domain) {
			return true
		}
	}
	return false
}

// DomainsNamed visits the domains that the files name, or name an address of, until visit
// returns false. A domain that several files name is visited several times.
func (t *Files) DomainsNamed(visit func(domain string) bool) {
	for _, w := range *t.files.Load() {
		for domain := range w.table.named {
			if !visit(domain) {
				return
			}
		}
	}
}
