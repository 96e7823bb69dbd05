package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// entryOf returns an entry with the attributes of a text: one line each, "name: value" for a further
// value of it, and in the end attributes without values. Any text is an entry.
func entryOf(dn, text string) *ldap.Entry {
	e := &ldap.Entry{DN: dn}
	for line := range strings.Lines(text) {
		name, value, has := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		at := slices.IndexFunc(e.Attributes, func(a *ldap.EntryAttribute) bool { return a.Name == name })
		if at < 0 {
			at = len(e.Attributes)
			e.Attributes = append(e.Attributes, &ldap.EntryAttribute{Name: name})
		}
		if has {
			a := e.Attributes[at]
			a.Values, a.ByteValues = append(a.Values, value), append(a.ByteValues, []byte(value))
		}
	}
	return e
}

const someGUID = "0123456789abcdef"

// FuzzEntry: whatever entry a server sends, an object has an identity and a class, has only values
// that the server sent in attributes that hold addresses, and ranges lead forward.
func FuzzEntry(f *testing.F) {
	for _, text := range []string{
		"objectGUID: " + someGUID + "\nobjectClass: top\nobjectClass: user\nuSNChanged: 7\nmail: ann@corp.example\n",
		"OBJECTguid: " + someGUID + "\nobjectClass: group\nproxyAddresses;range=0-1: SMTP:a@b.c\n" +
			"proxyAddresses;range=0-1: smtp:d@e.f\nproxyAddresses\n",
		"objectGUID: " + someGUID + "\nobjectClass: msDS-ManagedServiceAccount\nuserAccountControl: -514\n" +
			"msExchRecipientTypeDetails: 16\nmsExchRequireAuthToSendTo: TRUE\nisRecycled: TRUE\nwhenChanged: 2026\n",
		"objectGUID: 16\nobjectClass\n", "objectGUID: " + strings.Repeat("\x00", 16) + "\n", "mail;range=5-*: x\n",
		"uSNChanged: -1\n", "userAccountControl: 99999999999999999999\n", "msDS-ReplAttributeMetaData: \n", ": \n\n",
	} {
		f.Add("CN=Ann,DC=corp,DC=example", text, 0)
		f.Add(`CN=Ann\0ADEL:x,CN=Deleted Objects,DC=corp,DC=example`, text, 2)
	}
	c := &Conn{config: Config{AddressAttributes: []string{"proxyAddresses", "mail"}}}
	f.Fuzz(func(t *testing.T, dn, text string, next int) {
		e := entryOf(dn, text)
		o, err := c.parseEntry(e)
		if err == nil && (o.GUID.IsZero() || len(o.Classes) == 0 || !o.Deleted && o.Deletion != (Origin{})) {
			t.Errorf("parseEntry(%q) = %+v", text, o)
		}
		size := 0
		for _, v := range o.Values {
			size += len(v.Raw)
			if v.Attribute != "mail" && v.Attribute != "proxyaddresses" || !strings.Contains(text, v.Raw) {
				t.Errorf("parseEntry(%q): value %+v", text, v)
			}
		}
		if size != o.size {
			t.Errorf("parseEntry(%q): size %d, want %d", text, o.size, size)
		}
		for _, p := range o.pending {
			if p.next <= 0 {
				t.Errorf("parseEntry(%q): the next range is %+v", text, p)
			}
		}
		_, after, err := rangeValues(e, &o, pendingRange{"proxyaddresses", next})
		if err == nil && after != 0 && after <= next {
			t.Errorf("rangeValues(%q) from %d: then from %d", text, next, after)
		}
	})
}

// FuzzRoot: whatever rootDSE a server sends, it has a name, a naming context and a USN, or it is an
// error.
func FuzzRoot(f *testing.F) {
	const whole = "highestCommittedUSN: 12345\ndsServiceName: CN=NTDS Settings,CN=DC1\n" +
		"dnsHostName: DC1.corp.example\ndefaultNamingContext: DC=corp,DC=example\ncurrentTime: 20260131235959.0Z\n" +
		"configurationNamingContext: CN=Configuration,DC=corp,DC=example\nsupportedControl: 1.2.840.113556.1.4.417\n"
	f.Add(whole)
	for _, change := range []string{"12345", "CN=NTDS Settings,CN=DC1", "DC1.corp.example", "2026013123",
		"dnsHostName"} {
		f.Add(strings.Replace(whole, change, "", 1))
		f.Add(strings.Replace(whole, change, "-1", 1))
		f.Add(strings.Replace(whole, change, strings.Repeat("9", 25), 1))
	}
	c := &Conn{}
	f.Fuzz(func(t *testing.T, text string) {
		root, service, err := c.parseRoot(entryOf("", text))
		if err == nil &&
			(root.HighestCommittedUSN == 0 || root.HighestCommittedUSN > 1<<63-1 || root.DNSHostName == "" ||
				root.DefaultNamingContext == "" || service == "" ||
				root.DNSHostName != strings.ToLower(root.DNSHostName)) {
			t.Errorf("parseRoot(%q) = %+v, %q", text, root, service)
		}
		if err != nil && (service != "" || fmt.Sprint(root) != fmt.Sprint(Root{})) {
			t.Errorf("parseRoot(%q) = %+v, %q and an error", text, root, service)
		}
	})
}
