package address

import "iter"

// Parents visits the configured names that stand for all sub-domains of a parent of a
// canonical domain, nearest first: for a.example.org ".example.org" and ".org".
func Parents(domain string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range len(domain) {
			if domain[i] == '.' && !yield(domain[i:]) {
				return
			}
		}
	}
}

// LookupDomain returns the value configured for a canonical domain: that of the domain
// itself, otherwise that of its nearest parent. It reports whether there is one.
func LookupDomain[V any](configured map[string]V, domain string) (V, bool) {
	if v, found := configured[domain]; found {
		return v, true
	}
	for parent := range Parents(domain) {
		if v, found := configured[parent]; found {
			return v, true
		}
	}
	var none V
	return none, false
}
