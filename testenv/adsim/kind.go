package adsim

// Kind is the type of an object: its objectClass chain and naming attribute.
type Kind uint8

// The kinds of object that tests may add.
const (
	User Kind = iota + 1
	InetOrgPerson
	Group
	Contact
	PublicFolder
	DynamicList // msExchDynamicDistributionList
	OU
	Container
	Computer
	ManagedService // msDS-GroupManagedServiceAccount: a computer by class
	PrintQueue     // a class that the mirror does not read

	// Of the configuration naming context.
	CrossRef        // a domain of the forest, in CN=Partitions
	AcceptedDomain  // msExchAcceptedDomain, in CN=Services
	AttributeSchema // an attribute, in CN=Schema

	domainRoot
	lostAndFound
	configurationRoot
	dsaSettings
)

// kindInfo is the schema of a kind.
type kindInfo struct {
	classes  []string // objectClass, most general first
	naming   string   // attribute of the relative distinguished name
	category string   // name of the objectCategory
}

// kinds is the schema. Index: Kind.
var kinds = [...]kindInfo{
	User:          {[]string{"top", "person", "organizationalPerson", "user"}, "CN", "Person"},
	InetOrgPerson: {[]string{"top", "person", "organizationalPerson", "user", "inetOrgPerson"}, "CN", "Person"},
	Group:         {[]string{"top", "group"}, "CN", "Group"},
	Contact:       {[]string{"top", "person", "organizationalPerson", "contact"}, "CN", "Person"},
	PublicFolder:  {[]string{"top", "publicFolder"}, "CN", "ms-Exch-Public-Folder"},
	DynamicList: {[]string{"top", "msExchBaseClass", "msExchDynamicDistributionList"}, "CN",
		"ms-Exch-Dynamic-Distribution-List"},
	OU:        {[]string{"top", "organizationalUnit"}, "OU", "Organizational-Unit"},
	Container: {[]string{"top", "container"}, "CN", "Container"},
	Computer:  {[]string{"top", "person", "organizationalPerson", "user", "computer"}, "CN", "Computer"},
	ManagedService: {[]string{"top", "person", "organizationalPerson", "user", "computer",
		"msDS-GroupManagedServiceAccount"}, "CN", "ms-DS-Group-Managed-Service-Account"},
	PrintQueue:        {[]string{"top", "leaf", "connectionPoint", "printQueue"}, "CN", "Print-Queue"},
	CrossRef:          {[]string{"top", "crossRef"}, "CN", "Cross-Ref"},
	AcceptedDomain:    {[]string{"top", "msExchAcceptedDomain"}, "CN", "ms-Exch-Accepted-Domain"},
	AttributeSchema:   {[]string{"top", "attributeSchema"}, "CN", "Attribute-Schema"},
	lostAndFound:      {[]string{"top", "lostAndFound"}, "CN", "Lost-And-Found"},
	domainRoot:        {[]string{"top", "domain", "domainDNS"}, "DC", "Domain-DNS"},
	configurationRoot: {[]string{"top", "configuration"}, "CN", "Configuration"},
	dsaSettings:       {[]string{"top", "applicationSettings", "nTDSDSA"}, "CN", "NTDS-DSA"},
}

func (k Kind) info() kindInfo { return kinds[k] }

// valid reports whether tests may add objects of the kind.
func (k Kind) valid() bool { return k >= User && k <= AttributeSchema }

// schemaNames holds attribute names in the case that the directory prints. Other names keep the
// case of their first write.
var schemaNames = func() map[string]string {
	names := map[string]string{}
	for _, n := range []string{
		"objectGUID", "objectClass", "objectCategory", "distinguishedName", "name", "cn", "ou",
		"uSNChanged", "uSNCreated", "whenChanged", "whenCreated", "isDeleted", "isRecycled",
		"lastKnownParent", "invocationId", "replPropertyMetaData", "proxyAddresses", "mail", "sAMAccountName",
		"userAccountControl", "msExchRequireAuthToSendTo", "msExchRecipientTypeDetails",
		"targetAddress", "userPrincipalName", "displayName", "description", "member",
	} {
		names[foldName(n)] = n
	}
	return names
}()
