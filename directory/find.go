package directory

import (
	"context"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/net/idna"

	"rcpt-milter/address"
)

// maxCandidates limits the objects that can share one address by mistake. A longer answer does
// not match the search.
const maxCandidates = 1000

// Find searches for the live objects that may own one address. Active Directory compares text
// more loosely than a mail system, so the objects are candidates: the caller compares their
// values again in canonical form. No objects and a nil error mean that nothing matches.
// Errors: as Read.
func (c *Conn) Find(ctx context.Context, a address.Address) ([]Object, error) {
	var found []Object
	err := c.searchPages(ctx, query{filter: findFilter(c.config.AddressAttributes, a)}, func(objects []Object) error {
		if found = append(found, objects...); len(found) > maxCandidates {
			return c.operationError("looking for an address",
				newError(ErrProtocol, "the answer has more than %d objects", maxCandidates))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// findFilter matches every form in which an attribute may hold the address. In proxyAddresses
// it follows a type prefix, in mail it does not, in other attributes it may.
func findFilter(attributes []string, a address.Address) string {
	var b strings.Builder
	b.WriteString("(&(|")
	for _, attribute := range attributes {
		for _, text := range addressForms(a) {
			if !strings.EqualFold(attribute, "mail") {
				b.WriteString("(" + attribute + "=smtp:" + ldap.EscapeFilter(text) + ")")
			}
			if !strings.EqualFold(attribute, "proxyAddresses") {
				b.WriteString("(" + attribute + "=" + ldap.EscapeFilter(text) + ")")
			}
		}
	}
	b.WriteString(")" + passFilter(0) + ")")
	return b.String()
}

// addressForms returns the forms of an address that a directory may hold: the local part
// quoted or not, the domain in A-labels or U-labels.
func addressForms(a address.Address) []string {
	locals := []string{a.Local()}
	if bare := a.Unquoted(); bare != a.Local() {
		locals = append(locals, bare)
	}
	domains := []string{a.Domain()}
	if unicode, err := idna.ToUnicode(a.Domain()); err == nil && unicode != a.Domain() {
		domains = append(domains, unicode)
	}
	var out []string
	for _, local := range locals {
		for _, domain := range domains {
			out = append(out, local+"@"+domain)
		}
	}
	return slices.Compact(out)
}
