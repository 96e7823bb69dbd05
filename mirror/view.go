package mirror

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"rcpt-milter/directory"
)

// What a connection shows depends on more than the database behind it. A port of the
// Global Catalog shows the other domains of the forest too, and an account may be allowed
// to read more or less than another. Both belong to the cursor: an index that was read
// through one view says nothing about what another view shows.
const (
	viewDomain  = "domain"  // ports 389 and 636
	viewCatalog = "catalog" // ports 3268 and 3269
)

// ViewOfPort gives the View of a Candidate for the port of its URL.
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

// otherView is the reason for which what one cursor saw says nothing about what the other
// one sees; empty: there is none. What is not known of one of them counts as equal.
func (c cursor) viewMismatch(n cursor) string {
	switch {
	case conflict(c.View, n.View) && n.View == viewCatalog:
		return "the port of the Global Catalog is read, and was not before"
	case conflict(c.View, n.View):
		return "the port of the Global Catalog is not read any more"
	case conflict(c.Account, n.Account):
		return "it was read with another account before (" + c.Account + ")"
	}
	return ""
}

// differ reports whether two things are known, and not the same.
func conflict(a, b string) bool { return a != "" && b != "" && !strings.EqualFold(a, b) }

// sees reports whether a cursor covers what is read with n: the same domain, in the same
// view.
func (c cursor) covers(n cursor) bool {
	return !conflict(c.Context, n.Context) && c.viewMismatch(n) == ""
}

// identify fills in the account where the source does not know it.
func (m *Mirror) withAccount(root directory.Root) directory.Root {
	root.Account = cmp.Or(m.config.Account, root.Account)
	return root
}

// expectsOther reports, before any controller was asked, whether all of them will show
// something else than what the cursor covers, or one that is narrow was read last.
func (m *Mirror) expectsOther(at cursor) bool {
	if conflict(at.Account, m.config.Account) {
		return true
	}
	list := m.config.Candidates
	if at.View == viewDomain && slices.ContainsFunc(list, func(c Candidate) bool { return c.View == viewCatalog }) {
		return true
	}
	other := func(c Candidate) bool { return conflict(at.View, c.View) }
	return len(list) > 0 && !slices.ContainsFunc(list, func(c Candidate) bool { return !other(c) })
}

// narrow reports whether this connection shows one domain while another candidate is a
// Global Catalog. What only that one shows cannot be told from here: it is not missed, and
// the directory is not ready for what is not known.
func (m *Mirror) isDomainOnly(root directory.Root) bool {
	if root.GlobalCatalog {
		return false
	}
	return slices.ContainsFunc(m.controllers.list, m.isCatalog)
}

// isCatalog reports whether a candidate is, or was when it was last met, a Global Catalog.
func (m *Mirror) isCatalog(c Candidate) bool {
	met := m.controllers.hosts[c.Name]
	return c.View == viewCatalog || met != nil && met.view == viewCatalog
}

// catalogAgain is how often a narrow connection is given up for a Global Catalog that
// answers: without one, the directory does not get ready.
const catalogRetryInterval = 15 * time.Minute

// seekCatalog exchanges a narrow connection for one to a Global Catalog, if one answers.
func (m *Mirror) seekCatalog(ctx context.Context) {
	now := m.config.Now()
	if m.source == nil || !m.lastDomainOnly || now.Sub(m.catalogTriedAt).Abs() < catalogRetryInterval {
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
			m.config.Log.Info("the Global Catalog answers, and is read again", "controller", root.DNSHostName)
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

// isWide notes what the current candidate led to, and reports whether that is a Global Catalog.
func (m *Mirror) reachedCatalog(root directory.Root) bool {
	m.recordHost(root)
	return root.GlobalCatalog
}

// inDomain reports whether an object belongs to the domain of a naming context, and not to
// one below it: the last components of its name that are domain components are that.
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

// cutRDN cuts off the first component of a name, at a comma that is not escaped.
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
