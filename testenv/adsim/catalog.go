package adsim

import (
	"context"
	"net"
	"strings"
)

// catalogPort is the LDAPS port of a Global Catalog, by which clients know one.
const catalogPort = "3269"

// AddDomain makes a child domain, for example DC=child,DC=corp,DC=example. Objects are
// added to it like others. Only the port of the Global Catalog shows them, under USNs of
// this controller, as a partial replica of that domain would.
func (d *Directory) AddDomain(label string) GUID {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.domains = true
	return d.entries[d.insert(domainRoot, d.root, label, nil)].guid
}

// inChildDomain reports whether an object belongs to a child domain.
func (d *Directory) inChildDomain(i int32) bool {
	for d.domains && i >= 0 && i != d.root {
		e := &d.entries[i]
		if e.kind == domainRoot {
			return true
		}
		if i = e.parent; e.deleted && e.lastParent >= 0 { // its tombstone stays with its domain
			i = e.lastParent
		}
	}
	return false
}

// InChild reports whether an object belongs, or belonged, to a child domain.
func (d *Directory) InChild(guid GUID) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i, known := d.byGUID[guid]
	return known && d.inChildDomain(i)
}

// view is what a connection may see, beside its rights to deleted objects.
type view struct {
	catalog bool     // the other domains of the forest too
	hidden  []string // names of objects that are not seen, with all below them
}

// inView reports whether a connection sees an object at all.
func (d *Directory) inView(i int32, v view) bool {
	return (v.catalog || !d.inChildDomain(i)) && (len(v.hidden) == 0 || !under(d.dn(i), v.hidden))
}

// CatalogURL is where the server answers as a Global Catalog, over LDAPS. The port in it is
// the real one, by which clients know a catalog; they get there by DialCatalog.
func (s *Server) CatalogURL() string {
	host, _, _ := net.SplitHostPort(s.address(2))
	return "ldaps://" + net.JoinHostPort(host, catalogPort)
}

// DialCatalog connects as net.Dialer does, but for the port of the Global Catalog, which
// leads to this server.
func (s *Server) DialCatalog(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasSuffix(address, ":"+catalogPort) {
		address = s.address(2)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// AddAccount lets another name bind, with the same password. It does not see the objects
// of the hidden names, and what is below them.
func (s *Server) AddAccount(name string, hidden ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[foldName(name)] = hidden
}

// account reports whether a name may bind, and what is hidden from it.
func (s *Server) account(name string) (hidden []string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hidden, known = s.accounts[foldName(name)]
	return hidden, known
}

func (s *Server) mayBind(name string) bool {
	_, known := s.account(name)
	return known
}
