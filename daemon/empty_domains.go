package daemon

import (
	"slices"
	"strings"

	"rcpt-milter/config"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// hasDomainIndex is an index that can tell whether a domain has addresses.
type hasDomainIndex interface {
	policy.Index
	// HasDomain reports whether the index has an address in a canonical domain.
	HasDomain(domain string) bool
}

var (
	_ hasDomainIndex = index{}
	_ hasDomainIndex = indexAt{}
)

// listedDomains has the domains of the addresses in accept and accept_files. Patterns name no address, and
// entries of refuse are not recipients.
type listedDomains struct {
	accept map[string]bool
	files  *tables.Files // may be nil
}

func newListedDomains(c *config.Config, files *tables.Files) listedDomains {
	l := listedDomains{accept: map[string]bool{}, files: files}
	for _, entry := range c.Accept {
		l.accept[entry[strings.LastIndexByte(entry, '@')+1:]] = true
	}
	return l
}

func (l listedDomains) has(domain string) bool {
	return l.accept[domain] || l.files != nil && l.files.NamesDomain(domain)
}

// hasBelow reports whether a subdomain of parent is listed. parent starts with a dot.
func (l listedDomains) hasBelow(parent string) (found bool) {
	for domain := range l.accept {
		if strings.HasSuffix(domain, parent) {
			return true
		}
	}
	if l.files != nil {
		l.files.DomainsNamed(func(domain string) bool {
			found = strings.HasSuffix(domain, parent)
			return !found
		})
	}
	return found
}

// hasAddresses returns a function for a policy that reports whether the index or a list has an address in a
// domain. It returns nil if the index cannot tell.
func hasAddresses(c *config.Config, i policy.Index, files policy.Table) func(domain string) bool {
	asked, ok := i.(hasDomainIndex)
	if !ok {
		return nil
	}
	tables, _ := files.(*tables.Files)
	listed := newListedDomains(c, tables)
	return func(domain string) bool { return asked.HasDomain(domain) || listed.has(domain) }
}

// emptyDomains returns the enforced domains, and parents of subdomains, that have no address in the index or
// the lists, sorted. It omits a domain until all directories that may own it have been read.
func emptyDomains(c *config.Config, i index, files *tables.Files) []string {
	return slices.DeleteFunc(domainsWithoutAddress(c, files, i.HasDomain, i.store.HasDomainBelow),
		func(domain string) bool { return !hasBeenRead(i, domain) })
}

// domainsWithoutAddress returns the enforced domains, and parents of subdomains, that have no address in the
// index or the lists, sorted.
func domainsWithoutAddress(c *config.Config, files *tables.Files, has, hasBelow func(domain string) bool) []string {
	listed := newListedDomains(c, files)
	var without []string
	for domain := range domainsNeedingAddress(c, files) {
		found := has(domain) || listed.has(domain)
		if strings.HasPrefix(domain, ".") {
			found = hasBelow(domain) || listed.hasBelow(domain)
		}
		if !found {
			without = append(without, domain)
		}
	}
	slices.Sort(without)
	return without
}
