package daemon

import (
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// checkEmptyDomains warns about enforced domains without an address in the store. It skips a domain if a
// directory that may own it has not been read.
func (f *findings) checkEmptyDomains(s *store.Store, c *config.Config) {
	for _, domain := range domainsWithoutAddress(c, tablesOf(c), s.HasDomain, s.HasDomainBelow) {
		unread := func(d config.Directory) bool {
			return d.MayOwn(domain) && s.Directory(d.Name).LastFull.Number == 0
		}
		if !slices.ContainsFunc(c.Directories, unread) {
			f.warning("empty-domain", "%s", control.EmptyDomainText(domain, c.WhenNotReady))
		}
	}
}

// tablesOf reads the accept files, like a start of the daemon. checkAcceptFiles reports their errors.
func tablesOf(c *config.Config) *tables.Files {
	tables := tables.NewFiles(tables.Config{Copies: tables.Copies{Dir: copiesOf(c), ReadOnly: true}})
	if p, err := tables.Prepare(c.AcceptFiles); err == nil {
		tables.Use(p)
	}
	return tables
}

// noteDomain records that a directory has an address in a domain. It reports the first such directory.
func (c *controllerCheck) noteDomain(a address.Address) {
	has := func(enforced string) bool {
		return c.d.MayOwn(a.Domain()) && (a.Domain() == enforced ||
			strings.HasPrefix(enforced, ".") && strings.HasSuffix(a.Domain(), enforced))
	}
	c.unseenDomains = slices.DeleteFunc(c.unseenDomains, func(domain string) bool {
		if has(domain) {
			c.good("domain",
				"directory %s: has addresses of %s, such as %s", c.d.Name, strings.TrimPrefix(domain, "."), a)
		}
		return has(domain)
	})
}

// checkUnseenDomains reports enforced domains without an address in any directory. It skips a domain if a
// directory that may own it could not be read.
func (l *liveCheck) checkUnseenDomains() {
	for _, domain := range slices.Sorted(slices.Values(l.unseenDomains)) {
		asked := func(d config.Directory) bool { return !d.MayOwn(domain) || l.complete[d.Name] }
		if slices.IndexFunc(l.config.Directories, func(d config.Directory) bool { return !asked(d) }) < 0 {
			l.warning("empty-domain", "no directory has an address of %s, which domains says to enforce: %s; "+
				"correct the name in domains, add the directory that has its recipients, or name one of them in accept",
				domain, control.EmptyDomainReply(l.config.WhenNotReady))
		}
	}
}
