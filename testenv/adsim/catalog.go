package adsim

import (
	"context"
	"net"
	"strings"
)

// catalogPort is the LDAPS port of a Global Catalog, by which clients recognize one.
const catalogPort = "3269"

// AddDomain adds a child domain, for example DC=child,DC=corp,DC=example. Objects are added to it
// like others. Only the port of the Global Catalog shows them, with USNs of this controller, as a
// partial replica of that domain would.
func (d *Directory) AddDomain(label string) GUID {
	d.lock()
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
		if i = e.parent; e.deleted && e.lastParent >= 0 { // a tombstone stays in its domain
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

// view is the part of the forest that a connection may see, apart from deleted objects.
type view struct {
	catalog bool     // includes the other domains of the forest
	hidden  []string // DNs of objects that are hidden with their subtrees
}

// inView reports whether a connection sees an object at all.
func (d *Directory) inView(i int32, v view) bool {
	return (v.catalog || !d.inChildDomain(i)) && (len(v.hidden) == 0 || !under(d.dn(i), v.hidden))
}

// CatalogURL returns the LDAPS URL of the Global Catalog. It has the standard port, by which
// clients recognize a catalog; DialCatalog connects them.
func (s *Server) CatalogURL() string {
	host, _, _ := net.SplitHostPort(s.address(2))
	return "ldaps://" + net.JoinHostPort(host, catalogPort)
}

// DialCatalog connects like net.Dialer, but the port of the Global Catalog leads to this server.
func (s *Server) DialCatalog(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasSuffix(address, ":"+catalogPort) {
		address = s.address(2)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// AddAccount lets another name bind with the same password. The account does not see the objects
// with the hidden DNs and their subtrees.
func (s *Server) AddAccount(name string, hidden ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[foldName(name)] = hidden
}

// account reports whether a name may bind, and which objects are hidden from it.
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
