package adsim

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// page is one answer: encoded entries, and the position of the next page.
type page struct {
	entries    []encodedEntry
	references []string
	next       int32 // -1: nothing follows
}

// encodedEntry is one encoded entry.
type encodedEntry struct {
	dn string
	op []byte
}

// search returns at most limit entries from req.from on. It reads the current state: a change
// between two pages shows in the second page if its object is there.
func (d *Directory) search(req *request, limit, maxRange int) (page, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := page{next: -1}
	base, err := d.resolve(req)
	if err != nil {
		return out, err
	}
	i, end := req.from.next, int32(len(d.entries))
	if req.Scope == ldap.ScopeBaseObject {
		i, end = base, base+1
	}
	for ; i < end; i++ {
		if !d.visible(i, req) || !d.inScope(i, base, req.Scope) || req.filter.eval(d, i) != yes {
			continue
		}
		if len(out.entries) == limit {
			out.next = i
			return out, nil
		}
		op, err := d.encode(i, req, maxRange)
		if err != nil {
			return out, err
		}
		out.entries = append(out.entries, encodedEntry{d.dn(i), op})
	}
	if req.Scope == ldap.ScopeWholeSubtree && base == d.root && !hasControl(req.Controls, oidDomainScope) {
		out.references = []string{"ldap://" + d.config.Domain + "/" + d.entries[d.configRoot].name}
	}
	return out, nil
}

func hasControl(controls map[string]bool, oid string) bool { _, ok := controls[oid]; return ok }

// resolve finds the base of a search.
func (d *Directory) resolve(req *request) (int32, error) {
	base, err := d.lookupDN(req.Base)
	switch {
	case errors.Is(err, ErrName):
		return 0, ldapError{ldap.LDAPResultInvalidDNSyntax, "0000208F: NameErr: DSID-03100225, problem 2006 " +
			"(BAD_NAME), data 8350, best match of: ''"}
	case err != nil && !strings.HasPrefix(req.Base, "<") && !under(req.Base, []string{d.entries[d.root].name}):
		return 0, ldapError{ldap.LDAPResultReferral, ""}
	case err != nil || !d.visible(base, req):
		return 0, ldapError{ldap.LDAPResultNoSuchObject, "0000208D: NameErr: DSID-0310028B, problem 2001 " +
			"(NO_OBJECT), data 0, best match of: '" + d.entries[d.root].name + "'"}
	}
	return base, nil
}

// visible reports whether a search with these controls may see an object
// (MS-ADTS 3.1.1.3.4.1.14 and 3.1.1.3.4.1.26).
func (d *Directory) visible(i int32, req *request) bool {
	e := &d.entries[i]
	switch {
	case e.purged || !d.inView(i, req.view):
		return false
	case !e.deleted:
		return true
	case d.hideDeleted && i != d.deletedObjects: // the container is visible, without attributes
		return false
	}
	return hasControl(req.Controls, oidShowRecycled) || hasControl(req.Controls, oidShowDeleted) && !e.recycled
}

func (d *Directory) inScope(i, base int32, scope int) bool {
	switch scope {
	case ldap.ScopeBaseObject:
		return i == base
	case ldap.ScopeSingleLevel:
		return d.entries[i].parent == base
	}
	return d.within(i, base)
}

// encode encodes an entry with the requested attributes.
func (d *Directory) encode(i int32, req *request, maxRange int) ([]byte, error) {
	list := req.selection.list
	if req.selection.all {
		list = nil
		for _, key := range d.allKeys(i) {
			list = append(list, wanted{key: key, high: -1})
		}
	}
	var attrs [][]byte
	for _, w := range list {
		values := d.readable(i, w.key)
		if len(values) == 0 {
			continue
		}
		part, option, ok := w.cut(values, maxRange)
		if !ok && !hasControl(req.Controls, oidRangeNoError) {
			return nil, ldapError{ldap.LDAPResultOperationsError, "00002121: SvcErr: DSID-031401D0, problem 5012 " +
				"(DIR_ERROR), data 0"}
		}
		name := d.printName(i, w.key)
		if option != "" && !w.ranged { // shows that there are more values than in this answer
			attrs = append(attrs, attribute(name, nil))
		}
		if req.typesOnly {
			part = nil
		}
		attrs = append(attrs, attribute(name+option, part))
	}
	return tlv(tagSearchEntry, octetString(d.dn(i)), tlv(tagSequence, attrs...)), nil
}

// rootDSE encodes rootDSE (MS-ADTS 3.1.1.3.2).
func (s *Server) rootDSE(req *request) []byte {
	d := s.dir
	d.mu.RLock()
	defer d.mu.RUnlock()
	root, config := d.entries[d.root].name, d.entries[d.configRoot].name
	faults, synchronized := s.currentFaults(), "TRUE"
	if faults.Unsynchronized {
		synchronized = "FALSE"
	}
	var attrs [][]byte
	for _, a := range []attr{
		{name: "currentTime", values: []string{generalizedTime(d.config.Clock())}},
		{name: "defaultNamingContext", values: []string{root}},
		{name: "rootDomainNamingContext", values: []string{root}},
		{name: "configurationNamingContext", values: []string{config}},
		{name: "schemaNamingContext", values: []string{"CN=Schema," + config}},
		{name: "namingContexts", values: []string{root, config, "CN=Schema," + config}},
		{name: "dnsHostName", values: []string{d.HostName()}},
		{name: "dsServiceName", values: []string{d.dn(d.dsa)}},
		{name: "highestCommittedUSN", values: []string{strconv.FormatUint(d.usn, 10)}},
		{name: "supportedControl", values: supportedControls},
		{name: "supportedExtension", values: []string{oidStartTLS, oidWhoAmI}},
		{name: "supportedLDAPVersion", values: []string{"3", "2"}},
		{name: "isGlobalCatalogReady", values: []string{"TRUE"}},
		{name: "isSynchronized", values: []string{synchronized}},
	} {
		wants := req.selection.all || slices.ContainsFunc(req.selection.list,
			func(w wanted) bool { return w.key == foldName(a.name) })
		if wants && !slices.Contains(faults.HideRootDSE, a.name) {
			attrs = append(attrs, attribute(a.name, a.values))
		}
	}
	return tlv(tagSearchEntry, octetString(""), tlv(tagSequence, attrs...))
}
