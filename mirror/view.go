package mirror

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rcpt-milter/directory"
)

// Connections to the same database can show more or less of it. A Global Catalog port also shows the other
// domains of the forest, and one account may be permitted to read more than another. Both properties are part
// of the cursor, because an index that was read in one view proves nothing about another view.
const (
	viewDomain  = "domain"  // ports 389 and 636
	viewCatalog = "catalog" // ports 3268 and 3269
)

// ViewOfPort returns the View of a Candidate whose URL has this port.
func ViewOfPort(port string) string {
	if port == "3268" || port == "3269" {
		return viewCatalog
	}
	return viewDomain
}

func viewOf(root directory.Root) string {
	if root.GlobalCatalog {
		return viewCatalog
	}
	return viewDomain
}

// viewMismatch returns how the views of two cursors differ, or an empty string. An unknown property matches any
// value.
func (c cursor) viewMismatch(n cursor) string {
	switch {
	case conflict(c.View, n.View) && n.View == viewCatalog:
		return "the port of the Global Catalog is read, and was not before"
	case conflict(c.View, n.View):
		return "the port of the Global Catalog is no longer read"
	case conflict(c.Account, n.Account):
		return "it was read with another account before (" + c.Account + ")"
	}
	return ""
}

// conflict reports whether two values are both known and differ.
func conflict(a, b string) bool { return a != "" && b != "" && !strings.EqualFold(a, b) }

// covers reports whether a cursor covers what n reads: the same domain in the same view.
func (c cursor) covers(n cursor) bool {
	return !conflict(c.Context, n.Context) && c.viewMismatch(n) == ""
}

// withAccount sets the account if the source does not know it.
func (m *Mirror) withAccount(root directory.Root) directory.Root {
	root.Account = cmp.Or(m.config.Account, root.Account)
	return root
}

// expectsOther reports, before any controller has answered, whether all of them will show another scope than
// that of the cursor, or whether the last pass was domain-only.
func (m *Mirror) expectsOther(at cursor) bool {
	if conflict(at.Account, m.config.Account) {
		return true
	}
	list := m.config.Candidates
	if at.View == viewDomain && slices.ContainsFunc(list, func(c Candidate) bool { return c.View == viewCatalog }) {
		return true
	}
	return m.onlyOtherViews(at) || m.onlyOtherDomains(at)
}

// onlyOtherDomains reports whether the names of all controllers, or the name that leads to them, belong to another
// domain than that of the cursor. A name that was read in this domain belongs to it. Cursors of early versions do not
// tell which were.
func (m *Mirror) onlyOtherDomains(at cursor) bool {
	domain := domainOfContext(at.Context)
	if domain == "" || len(at.Hosts) == 0 {
		return false
	}
	if m.config.Domain != "" {
		return !strings.EqualFold(m.config.Domain, domain) &&
			!slices.Contains(at.Hosts, strings.ToLower(m.config.Domain))
	}
	return len(m.config.Candidates) > 0 && !slices.ContainsFunc(m.config.Candidates, func(c Candidate) bool {
		host := strings.ToLower(c.Host)
		_, suffix, qualified := strings.Cut(host, ".")
		if _, err := netip.ParseAddr(host); err == nil || !qualified {
			return true // such a host may be in any domain
		}
		return host == domain || suffix == domain || slices.Contains(at.Hosts, host)
	})
}

// maxHosts limits the names that a cursor has.
const maxHosts = 16

// readFrom returns the names by which the domain of next was read, the last one first. c is the cursor before.
func (c cursor) readFrom(host string, next cursor) []string {
	var hosts []string
	if !conflict(c.Context, next.Context) {
		hosts = slices.DeleteFunc(slices.Clone(c.Hosts), func(h string) bool { return h == host })
	}
	if host != "" {
		hosts = slices.Insert(hosts, 0, host)
	}
	return hosts[:min(len(hosts), maxHosts)]
}

// followedName returns the configured name of the controller that is read, as in cursor.Hosts; empty if unknown.
func (m *Mirror) followedName() string {
	return strings.ToLower(cmp.Or(m.config.Domain, m.current().Host))
}

// domainOfContext returns the DNS name of a naming context in lower case; empty if it is not that of a domain.
func domainOfContext(context string) string {
	var labels []string
	for rest := foldDN(context); rest != ""; {
		rdn, after, _ := cutRDN(rest)
		label, ok := strings.CutPrefix(rdn, "dc=")
		if !ok {
			return ""
		}
		labels, rest = append(labels, label), after
	}
	return strings.Join(labels, ".")
}

// onlyOtherViews reports whether all candidates show another view than that of the cursor.
func (m *Mirror) onlyOtherViews(at cursor) bool {
	list := m.config.Candidates
	return len(list) > 0 && !slices.ContainsFunc(list, func(c Candidate) bool { return !conflict(at.View, c.View) })
}

// isDomainOnly reports whether this connection shows only one domain although another candidate is a Global
// Catalog. Objects that only the Global Catalog shows do not count as gone then, and the directory is not ready
// for unknown addresses.
func (m *Mirror) isDomainOnly(root directory.Root) bool {
	if root.GlobalCatalog {
		return false
	}
	return slices.ContainsFunc(m.controllers.list, m.isCatalog)
}

// isCatalog reports whether a candidate is a Global Catalog, or was one at its last connection.
func (m *Mirror) isCatalog(c Candidate) bool {
	met := m.controllers.hosts[c.Name]
	return c.View == viewCatalog || met != nil && met.view == viewCatalog
}

// catalogRetryInterval is the interval at which a mirror with a domain-only connection tries to reach a Global
// Catalog. Without one, the directory does not become ready.
const catalogRetryInterval = 15 * time.Minute

// seekCatalog replaces a domain-only connection by one to a Global Catalog, if one answers.
func (m *Mirror) seekCatalog(ctx context.Context) {
	now := m.config.Now()
	if m.source == nil || !m.lastDomainOnly || !isOver(m.catalogTriedAt, now, catalogRetryInterval) {
		return
	}
	m.catalogTriedAt = now
	before := m.controllers.current
	for i, c := range m.controllers.list {
		if !m.isCatalog(c) {
			continue
		}
		m.controllers.current = i
		source, root, err := m.dial(ctx)
		if err == nil && m.reachedCatalog(root) {
			m.config.Log.Info("the Global Catalog answers and is read again", "controller", root.DNSHostName)
			m.hangUp()
			m.source = source
			return
		}
		if err == nil {
			source.Close()
		}
		if ctx.Err() != nil || needsNewSecret(err) {
			break
		}
	}
	m.controllers.current = before
}

// reachedCatalog records the controller of the current candidate. It reports whether the controller is a Global
// Catalog.
func (m *Mirror) reachedCatalog(root directory.Root) bool {
	m.recordHost(root)
	return root.GlobalCatalog
}

// inDomain reports whether an object belongs to the domain of a naming context, and not to a domain below it.
// The domain components at the end of its DN determine the domain of an object.
func inDomain(dn, context string) bool {
	dn = foldDN(dn)
	domain := dn
	for rest := dn; rest != ""; {
		rdn, after, _ := cutRDN(rest)
		if !strings.HasPrefix(rdn, "dc=") {
			domain = after
		}
		rest = after
	}
	return domain == foldDN(context)
}

// cutRDN cuts off the first component of a DN, at the first comma that is not escaped.
func cutRDN(dn string) (rdn, after string, more bool) {
	for i := 0; i < len(dn); i++ {
		switch dn[i] {
		case '\\':
			i++
		case ',':
			return dn[:i], dn[i+1:], true
		}
	}
	return dn, "", false
}
