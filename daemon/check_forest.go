package daemon

import (
	"context"
	"maps"
	"slices"
	"strings"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/directory"
)

// routingDomain is the parent of the domains that Exchange uses to route mail to cloud mailboxes.
const routingDomain = "mail.onmicrosoft.com"

// checkHybrid warns about a hybrid organization: recipients that were created in the cloud are not in the
// directory.
func (c *controllerCheck) checkHybrid(ctx context.Context) error {
	sign, err := c.conn.AddressUnder(ctx, routingDomain)
	if err != nil {
		return err
	}
	if sign != "" {
		sign = "has addresses such as " + sign
	}
	for _, a := range c.forest.Accepted {
		if sign == "" && strings.HasSuffix(a.Name, "."+routingDomain) {
			sign = "accepts mail for " + a.Name
		}
	}
	if sign != "" {
		c.warning("hybrid",
			"%s: this organization %s: it is a hybrid one, and mailboxes and groups that were made in the cloud are "+
				"not in this directory; "+
				"next, keep these domains in mode report, read \"rcpt-milter report\", and carry an export of "+
				"Exchange Online into accept_files (active-directory.md, \"An export as an accept file\")",
			c.where, sign)
	}
	return nil
}

// noteForest records the forest of a controller for checkForests.
func (c *controllerCheck) noteForest() {
	key := strings.ToLower(c.root.ConfigNamingContext)
	f, known := c.forests[key]
	if !known {
		f = coveredForest{Forest: c.forest, reportedBy: c.d.Name}
	}
	f.covered = append(f.covered, strings.ToLower(c.root.DefaultNamingContext))
	c.forests[key] = f
}

// checkForests reports domains of a forest that no directory reads, and mail domains of Exchange that the
// configuration lacks.
func (l *liveCheck) checkForests() {
	for _, key := range slices.Sorted(maps.Keys(l.forests)) {
		f := l.forests[key]
		for _, domain := range f.Domains {
			if !slices.Contains(f.covered, strings.ToLower(domain.NamingContext)) {
				l.warning("domain-unread",
					"directory %s: the forest has a domain %s too, which no directory reads: all recipients there are "+
						"unknown; "+
						"add a directory for it", f.reportedBy, domain.DNSName)
			}
		}
		for _, accepted := range f.Accepted {
			l.checkAccepted(f.reportedBy, accepted)
		}
		l.checkNotAccepted(f)
	}
}

// checkAccepted compares a mail domain of Exchange with the configuration.
func (l *liveCheck) checkAccepted(by string, a directory.AcceptedDomain) {
	name := a.Name
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		name = "." + rest
	}
	mode, ours := address.LookupDomain(l.config.Domains, name)
	switch {
	case strings.HasSuffix(name, ".onmicrosoft.com"): // receives mail only from the cloud
	case !ours && !a.Relay:
		l.warning("domain-missing",
			"directory %s: Exchange accepts mail for %s, which has no entry in domains: its recipients are not "+
				"judged; add \"%s: report\"", by, a.Name, name)
	case mode == config.Enforce && a.Relay:
		l.warning("relay-domain",
			"directory %s: Exchange passes mail for %s on to recipients that are not in this directory (a relay "+
				"domain), and domains says enforce: "+
				"they would be rejected; use mode pass, or a directory that has them", by, a.Name)
	}
}

// checkNotAccepted warns about configured domains that Exchange does not know. It does nothing if the forest
// has no Exchange. Exchange need not know a domain alias: Postfix may rewrite its recipients to the target.
func (l *liveCheck) checkNotAccepted(f coveredForest) {
	if len(f.Accepted) == 0 || len(l.forests) > 1 {
		return
	}
	for _, domain := range slices.Sorted(maps.Keys(l.config.Domains)) {
		if l.config.Domains[domain] == config.Pass || slices.Contains(l.aliases, domain) ||
			isAccepted(f.Accepted, domain) {
			continue
		}
		l.warning("domain-not-accepted",
			"directory %s: domains names %s, which is not an accepted domain of Exchange: check its spelling, and "+
				"whether it has recipients", f.reportedBy, domain)
	}
}

func isAccepted(all []directory.AcceptedDomain, domain string) bool {
	return slices.ContainsFunc(all, func(a directory.AcceptedDomain) bool {
		parent, wild := strings.CutPrefix(a.Name, "*")
		return a.Name == domain || strings.HasPrefix(domain, ".") && strings.HasSuffix(a.Name, domain) ||
			wild && strings.HasSuffix(domain, parent)
	})
}
