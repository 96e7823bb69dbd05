package directory

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// Forest describes the mail and Active Directory domains in the configuration naming context,
// which is the same on every controller of a forest.
type Forest struct {
	Domains  []ForestDomain
	Accepted []AcceptedDomain // of Exchange; empty: there is no Exchange, or they are unreadable
}

// ForestDomain is one domain of the forest (MS-ADTS 6.1.1.2.1.1.2).
type ForestDomain struct {
	NamingContext string // DC=child,DC=corp,DC=example
	DNSName       string // child.corp.example
	NetBIOS       string // CHILD
}

// AcceptedDomain is a domain that Exchange accepts mail for.
type AcceptedDomain struct {
	Name  string // lower case; "*.example.com": all sub-domains
	Relay bool   // Exchange relays mail for recipients that it does not know
}

// domainFlag is FLAG_CR_NTDS_DOMAIN of systemFlags (MS-ADTS 2.2.10): the crossRef belongs to a
// domain, not to the configuration, the schema or an application.
const domainFlag = 0x2

// Forest reads the domains of the forest. Errors: as Read.
func (c *Conn) Forest(ctx context.Context) (Forest, error) {
	if err := c.ensureRoot(ctx); err != nil {
		return Forest{}, err
	}
	var f Forest
	limit := uint32(c.config.PageSize)
	refs, err := c.searchFirst(ctx, "CN=Partitions,"+c.root.ConfigNamingContext, "(objectClass=crossRef)", limit,
		"nCName", "dnsRoot", "nETBIOSName", "systemFlags")
	if err != nil {
		return f, c.operationError("reading CN=Partitions", err)
	}
	for _, e := range refs {
		flags, _ := strconv.ParseInt(e.GetEqualFoldAttributeValue("systemFlags"), 10, 64)
		if flags&domainFlag != 0 {
			f.Domains = append(f.Domains, ForestDomain{e.GetEqualFoldAttributeValue("nCName"),
				strings.ToLower(e.GetEqualFoldAttributeValue("dnsRoot")), e.GetEqualFoldAttributeValue("nETBIOSName")})
		}
	}
	accepted, err := c.searchFirst(ctx, c.root.ConfigNamingContext, "(objectClass=msExchAcceptedDomain)", limit,
		"msExchAcceptedDomainName", "msExchAcceptedDomainFlags")
	if err != nil {
		return f, c.operationError("looking for accepted domains of Exchange", err)
	}
	for _, e := range accepted {
		if name := strings.ToLower(e.GetEqualFoldAttributeValue("msExchAcceptedDomainName")); name != "" {
			// 0 is authoritative, 1 an external relay, 2 an internal one.
			flags := e.GetEqualFoldAttributeValue("msExchAcceptedDomainFlags")
			f.Accepted = append(f.Accepted, AcceptedDomain{name, flags > "0"})
		}
	}
	slices.SortFunc(f.Accepted, func(a, b AcceptedDomain) int { return strings.Compare(a.Name, b.Name) })
	return f, nil
}

// SchemaAttribute is the schema's description of an attribute.
type SchemaAttribute struct {
	Exists        bool
	GlobalCatalog bool // isMemberOfPartialAttributeSet: the Global Catalog holds it
}

// Schema looks up an attribute in the schema. Errors: as Read.
func (c *Conn) Schema(ctx context.Context, attribute string) (SchemaAttribute, error) {
	if err := c.ensureRoot(ctx); err != nil {
		return SchemaAttribute{}, err
	}
	filter := "(&(objectClass=attributeSchema)(lDAPDisplayName=" + ldap.EscapeFilter(attribute) + "))"
	found, err := c.searchFirst(ctx, "CN=Schema,"+c.root.ConfigNamingContext, filter, 1,
		"isMemberOfPartialAttributeSet")
	if err != nil || len(found) == 0 {
		return SchemaAttribute{}, c.operationError("looking "+attribute+" up in the schema", err)
	}
	return SchemaAttribute{true, found[0].GetEqualFoldAttributeValue("isMemberOfPartialAttributeSet") == "TRUE"}, nil
}
