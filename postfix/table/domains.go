package table

// NamesDomain reports whether the table names a canonical domain or an address of it.
func (t *Table) NamesDomain(domain string) bool { return t.byDomain[domain].keys > 0 }

// DomainsNamed visits the domains that the table names, or names an address of, until visit returns
// false. It reports whether it visited all of them.
func (t *Table) DomainsNamed(visit func(domain string) bool) bool {
	for domain, n := range t.byDomain {
		if n.keys > 0 && !visit(domain) {
			return false
		}
	}
	return true
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
		if !w.table.DomainsNamed(visit) {
			return
		}
	}
}
