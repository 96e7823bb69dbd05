package adsim

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// foldName returns the key of an attribute name.
func foldName(name string) string { return strings.ToLower(name) }

// values returns the values of an attribute, computed or stored, regardless of access rights. An
// absent attribute has none.
func (d *Directory) values(i int32, key string) []string {
	e := &d.entries[i]
	switch key {
	case "objectguid":
		return []string{string(e.guid[:])}
	case "objectclass":
		return e.kind.info().classes
	case "objectcategory":
		if e.deleted && !d.recycleBin && i != d.deletedObjects {
			return nil // a tombstone has none
		}
		return []string{"CN=" + e.kind.info().category + ",CN=Schema," + d.entries[d.configRoot].name}
	case "distinguishedname":
		return []string{d.dn(i)}
	case "usnchanged":
		return []string{strconv.FormatUint(e.usn, 10)}
	case "usncreated":
		return []string{strconv.FormatUint(e.created, 10)}
	case "whenchanged":
		return []string{generalizedTime(time.Unix(e.changedAt, 0))}
	case "whencreated":
		return []string{generalizedTime(time.Unix(e.createdAt, 0))}
	case "name", foldName(e.kind.info().naming):
		return []string{e.name}
	case "isdeleted":
		return flag(e.deleted)
	case "isrecycled":
		return flag(e.recycled)
	case "replpropertymetadata":
		return e.metaData()
	case "lastknownparent":
		if e.lastParent >= 0 {
			return []string{d.dn(e.lastParent)}
		}
		return nil
	case "invocationid":
		if i == d.dsa {
			return []string{string(d.invocation[:])}
		}
		return nil
	}
	if n := slices.IndexFunc(e.attrs, func(a attr) bool { return a.key == key }); n >= 0 {
		return e.attrs[n].values
	}
	return nil
}

// readable returns the values that a client sees. It omits hidden attributes, and all attributes
// of the container of deleted objects if the client lacks the right to it.
func (d *Directory) readable(i int32, key string) []string {
	if d.hidden[key] || d.hiddenOf[d.entries[i].guid][key] || d.hideDeleted && i == d.deletedObjects {
		return nil
	}
	return d.values(i, key)
}

// printName returns an attribute name in the case that the directory prints.
func (d *Directory) printName(i int32, key string) string {
	if name, ok := schemaNames[key]; ok {
		return name
	}
	for _, a := range d.entries[i].attrs {
		if a.key == key {
			return a.name
		}
	}
	return key
}

// computed lists the attributes that every object has without storing them.
var computed = []string{
	"objectclass", "objectguid", "objectcategory", "distinguishedname", "name", "cn", "ou",
	"usnchanged", "usncreated", "whenchanged", "whencreated", "isdeleted", "isrecycled",
	"lastknownparent", "invocationid",
}

// allKeys returns the attributes that a search for "*" returns.
func (d *Directory) allKeys(i int32) []string {
	keys := slices.Clone(computed)
	for _, a := range d.entries[i].attrs {
		keys = append(keys, a.key)
	}
	return keys
}

// flag returns a boolean that is absent if it is false.
func flag(set bool) []string {
	if set {
		return []string{"TRUE"}
	}
	return nil
}

// generalizedTime formats a time as Active Directory does (RFC 4517 section 3.3.13).
func generalizedTime(t time.Time) string { return t.UTC().Format("20060102150405.0Z") }

// sortedAttrs returns attributes in their stored form, in a fixed order.
func sortedAttrs(attrs Attrs) []attr {
	var out []attr
	for name, values := range attrs {
		if len(values) > 0 {
			out = append(out, attr{key: foldName(name), name: name, values: slices.Clone(values)})
		}
	}
	slices.SortFunc(out, func(a, b attr) int { return strings.Compare(a.key, b.key) })
	return out
}
