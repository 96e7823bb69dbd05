package adsim

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// escapeRDN escapes a name for a distinguished name as Active Directory does (RFC 4514 section
// 2.4; control characters in hexadecimal, as in "Anna\0ADEL:…").
func escapeRDN(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, "\\%02X", c)
		case strings.IndexByte(`,+"\<>;=`, c) >= 0,
			i == 0 && (c == '#' || c == ' '), i == len(name)-1 && c == ' ':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// lookupDN finds an object by its distinguished name, or by <GUID=…> in either of its notations
// (MS-ADTS 3.1.1.3.1.2.4).
func (d *Directory) lookupDN(dn string) (int32, error) {
	if guid, ok := parseGUIDName(dn); ok {
		return d.find(guid)
	}
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		return 0, fmt.Errorf("%w: %q: %w", ErrName, dn, err)
	}
	at, rest := int32(-1), len(parsed.RDNs)
	for _, root := range []int32{d.configRoot, d.root} {
		if suffix, err := ldap.ParseDN(d.entries[root].name); err == nil &&
			(suffix.AncestorOfFold(parsed) || suffix.EqualFold(parsed)) {
			at, rest = root, len(parsed.RDNs)-len(suffix.RDNs)
			break
		}
	}
	if at < 0 {
		return 0, fmt.Errorf("%w: %q", ErrNoObject, dn)
	}
	for n := rest - 1; n >= 0; n-- {
		rdn := parsed.RDNs[n].Attributes[0]
		child, ok := d.byName[childKey{at, foldValue(rdn.Type + "=" + rdn.Value)}]
		if !ok {
			return 0, fmt.Errorf("%w: %q", ErrNoObject, dn)
		}
		at = child
	}
	return at, nil
}

// splitDN returns the naming attribute and value of the first component, and the DN of the parent.
func splitDN(dn string) (naming, name, parent string, err error) {
	parsed, err := ldap.ParseDN(dn)
	if err != nil || len(parsed.RDNs) < 2 || len(parsed.RDNs[0].Attributes) != 1 {
		return "", "", "", fmt.Errorf("%w: %q", ErrName, dn)
	}
	first := parsed.RDNs[0].Attributes[0]
	parsed.RDNs = parsed.RDNs[1:]
	return first.Type, first.Value, parsed.String(), nil
}

// parseGUIDName parses <GUID=hex> and <GUID=xxxxxxxx-xxxx-…>.
func parseGUIDName(dn string) (guid GUID, ok bool) {
	inner, ok := strings.CutPrefix(dn, "<GUID=")
	if !ok {
		return guid, false
	}
	inner, ok = strings.CutSuffix(inner, ">")
	raw, err := hex.DecodeString(strings.ReplaceAll(inner, "-", ""))
	if !ok || err != nil || len(raw) != len(guid) {
		return guid, false
	}
	copy(guid[:], raw)
	if strings.Contains(inner, "-") {
		for _, swap := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
			guid[swap[0]], guid[swap[1]] = guid[swap[1]], guid[swap[0]]
		}
	}
	return guid, true
}
