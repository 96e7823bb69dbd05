package testenv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/text/unicode/norm"
)

// Controls of MS-ADTS section 3.1.1.3.4.1.
const (
	showDeleted  = "1.2.840.113556.1.4.417"
	showRecycled = "1.2.840.113556.1.4.2064"
	domainScope  = "1.2.840.113556.1.4.1339"
	treeDelete   = "1.2.840.113556.1.4.805"
)

// searchPage is the number of entries in one page.
const searchPage = 500

// Search reads all entries below a DN that match a filter, page by page. The option WithDeleted
// includes deleted objects.
func (d *Domain) Search(base, filter string, attributes []string, options ...SearchOption) ([]*ldap.Entry, error) {
	var entries []*ldap.Entry
	cookie := []byte(nil)
	for {
		// go-ldap writes the cookie into the control, so each page gets a new one.
		paging := ldap.NewControlPaging(searchPage)
		paging.SetCookie(cookie)
		request := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter,
			attributes,
			[]ldap.Control{ldap.NewControlString(domainScope, true, ""), paging})
		for _, option := range options {
			option(request)
		}
		result, err := d.conn.Search(request)
		if err != nil {
			return nil, fmt.Errorf("%s: search %s %s: %w", d.name, base, filter, err)
		}
		entries = append(entries, result.Entries...)
		answer, _ := ldap.FindControl(result.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if answer == nil || len(answer.Cookie) == 0 {
			return entries, nil
		}
		cookie = answer.Cookie
	}
}

// SearchOption changes a search.
type SearchOption func(*ldap.SearchRequest)

// WithDeleted makes a search include tombstones if the account may see them.
func WithDeleted(request *ldap.SearchRequest) {
	request.Controls = append(request.Controls,
		ldap.NewControlString(showDeleted, true, ""), ldap.NewControlString(showRecycled, true, ""))
}

// USN returns highestCommittedUSN of the domain controller.
func (d *Domain) USN() (uint64, error) {
	request := ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"highestCommittedUSN"}, nil)
	result, err := d.conn.Search(request)
	if err != nil {
		return 0, fmt.Errorf("%s: rootDSE: %w", d.name, err)
	}
	if len(result.Entries) != 1 {
		return 0, fmt.Errorf("%s: rootDSE has %d entries", d.name, len(result.Entries))
	}
	return strconv.ParseUint(result.Entries[0].GetAttributeValue("highestCommittedUSN"), 10, 64)
}

// recipientFilter matches everything that can be a recipient. Computers are users too, but not
// recipients.
const recipientFilter = "(&(|(mail=*)(proxyAddresses=*))(|(objectClass=user)(objectClass=group)(objectClass=contact)" +
	"(objectClass=publicFolder)(objectClass=msExchDynamicDistributionList))(!(objectClass=computer)))"

// Recipients returns every address that the domain gives to a recipient, in lower case, sorted,
// without duplicates, and the number of objects that own them. It shares no code with the daemon,
// so tests can compare the two.
func (d *Domain) Recipients() (addresses []string, objects int, err error) {
	entries, err := d.Search(BaseDN, recipientFilter, []string{"mail", "proxyAddresses"})
	if err != nil {
		return nil, 0, err
	}
	for _, entry := range entries {
		own := entry.GetAttributeValues("mail")
		for _, value := range entry.GetAttributeValues("proxyAddresses") {
			if kind, address, ok := strings.Cut(value, ":"); ok && strings.EqualFold(kind, "smtp") {
				own = append(own, address)
			}
		}
		if len(own) > 0 {
			objects++
		}
		for _, address := range own {
			addresses = append(addresses, strings.ToLower(norm.NFC.String(address)))
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), objects, nil
}

// Count returns the number of objects that match a filter.
func (d *Domain) Count(filter string) (int, error) {
	entries, err := d.Search(BaseDN, filter, []string{"objectGUID"})
	return len(entries), err
}

// Object is an object of the domain with what decides its addresses.
type Object struct {
	DN       string
	Disabled bool // the account
	Mail     string
	Proxies  []string // values of proxyAddresses, sorted
}

// SortObjects sorts objects by DN.
func SortObjects(list []Object) {
	slices.SortFunc(list, func(a, b Object) int { return strings.Compare(a.DN, b.DN) })
}

// Objects returns the objects below a DN that may be recipients, including those without an address,
// sorted by DN.
func (d *Domain) Objects(base string) ([]Object, error) {
	entries, err := d.Search(base, "(|(objectClass=user)(objectClass=group)(objectClass=contact))",
		[]string{"mail", "proxyAddresses", "userAccountControl"})
	if err != nil {
		return nil, err
	}
	var list []Object
	for _, e := range entries {
		control, _ := strconv.Atoi(e.GetAttributeValue("userAccountControl")) // a group has none
		list = append(list, Object{DN: e.DN, Disabled: control&2 != 0, Mail: e.GetAttributeValue("mail"),
			Proxies: slices.Sorted(slices.Values(e.GetAttributeValues("proxyAddresses")))})
	}
	SortObjects(list)
	return list, nil
}
