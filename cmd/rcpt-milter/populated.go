package main

import (
	"slices"
	"strings"

	"rcpt-milter/config"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// domainIndex is an index that can be asked about whole domains.
type domainIndex interface {
	policy.Index
	// HasDomain reports whether it has an address of a canonical domain.
	HasDomain(domain string) bool
}

var (
	_ domainIndex = index{}
	_ domainIndex = pastIndex{}
)

func (i index) HasDomain(domain string) bool { return i.store.HasDomain(domain) }

// listedDomains are the domains that accept and accept_files name an address of. A
// pattern names no address, and an entry of refuse is no recipient.
type listedDomains struct {
	accept map[string]bool
	files  *tables.Files // nil: none
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

// hasBelow reports whether a sub-domain of a parent, which begins with a dot, is listed.
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

// populated is whether a domain has an address in the index or a list, for a policy; nil
// where the index cannot be asked.
func populated(c *config.Config, i policy.Index, files policy.Table) func(domain string) bool {
	asked, ok := i.(domainIndex)
	if !ok {
		return nil
	}
	tables, _ := files.(*tables.Files)
	listed := newListedDomains(c, tables)
	return func(domain string) bool { return asked.HasDomain(domain) || listed.has(domain) }
}

// emptyDomains lists the enforced domains, and parents of sub-domains, of which neither
// the index nor a list has an address, in order. While a directory that may own one has
// not been read, nothing can be told of it.
func emptyDomains(c *config.Config, i index, files *tables.Files) []string {
	return slices.DeleteFunc(domainsWithout(c, files, i.HasDomain, i.store.HasDomainBelow),
		func(domain string) bool { return !told(i, domain) })
}

// domainsWithout lists the enforced domains, and parents of sub-domains, of which neither
// an index nor a list has an address, in order.
func domainsWithout(c *config.Config, files *tables.Files, has, hasBelow func(domain string) bool) []string {
	listed := newListedDomains(c, files)
	var without []string
	for domain := range populatedNames(c, files) {
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
