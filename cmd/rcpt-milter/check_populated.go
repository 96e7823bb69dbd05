package main

import (
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// checkPopulated warns of enforced domains of which the store has no address, once every
// directory that may own one has been read.
func (r *findings) checkPopulated(s *store.Store, c *config.Config) {
	r.warnEmpty(slices.DeleteFunc(domainsWithout(c, tablesOf(c),
		s.HasDomain, s.HasDomainBelow), func(domain string) bool {
		return slices.ContainsFunc(c.Directories, func(d config.Directory) bool {
			return d.MayOwn(domain) && s.Directory(d.Name).LastFull.Number == 0
		})
	}))
}

func (r *findings) warnEmpty(domains []string) {
	for _, domain := range domains {
		r.warning("%s", control.EmptyDomainText(domain))
	}
}

// tablesOf reads the accept files. What is wrong with them is a finding of its own.
func tablesOf(c *config.Config) *tables.Files {
	tables := tables.NewFiles(tables.Config{})
	if p, err := tables.Prepare(c.AcceptFiles); err == nil {
		tables.Use(p)
	}
	return tables
}

// noteDomain notes that a directory has an address of a domain, where no directory before it
// had one.
func (c *controllerCheck) noteDomain(a address.Address) {
	has := func(enforced string) bool {
		return c.d.MayOwn(a.Domain()) && (a.Domain() == enforced ||
			strings.HasPrefix(enforced, ".") && strings.HasSuffix(a.Domain(), enforced))
	}
	c.unseen = slices.DeleteFunc(c.unseen, func(domain string) bool {
		if has(domain) {
			c.good("directory %s: has addresses of %s, such as %s", c.d.Name, strings.TrimPrefix(domain, "."), a)
		}
		return has(domain)
	})
}

// checkUnseen reports the enforced domains of which no directory has an address. One that
// could not be asked may have them.
func (l *liveCheck) checkUnseen() {
	for _, domain := range slices.Sorted(slices.Values(l.unseen)) {
		asked := func(d config.Directory) bool { return !d.MayOwn(domain) || l.asked[d.Name] }
		if slices.IndexFunc(l.config.Directories, func(d config.Directory) bool { return !asked(d) }) < 0 {
			l.warning("no directory has an address of %s, which domains says to enforce: "+
				"all recipients there get 451 (when_not_ready); "+
				"correct the name in domains, add the directory that has its recipients, or name one of them in accept", domain)
		}
	}
}
