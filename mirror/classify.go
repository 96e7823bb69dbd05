package mirror

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// Rules say which objects of a directory are recipients. A change of any of them shows
// in the fingerprint and so leads to a full pass.
type Rules struct {
	// Attributes hold the addresses; nil: proxyAddresses and mail. The first attribute
	// that names an address is the one remembered.
	Attributes []string
	// Bases are the subtrees whose objects count; none: all.
	Bases []string
	// Exclude are subtrees whose objects do not count.
	Exclude []string
	// RefuseOutside takes msExchRequireAuthToSendTo at its word: mail from outside
	// senders is refused. Otherwise it is ignored.
	RefuseOutside bool
	// OmitSystem leaves out system mailboxes (systemTypes).
	OmitSystem bool
	// OmitDisabled leaves out disabled accounts, except those of mailboxes whose accounts
	// are always disabled (disabledTypes).
	OmitDisabled bool
}

// recipientClasses are the classes whose objects may own addresses; the most telling
// first. inetOrgPerson is a kind of user.
var recipientClasses = []string{"publicfolder", "msexchdynamicdistributionlist", "group", "contact", "user"}

// containerClasses are watched, because moving one moves what is below it without
// touching it.
var containerClasses = []string{"organizationalunit", "container"}

// classify says what an object owns. It is a pure function, and the only place that
// says what a recipient is. An object that is no recipient owns nothing, which is how
// the store learns that it is none any more.
func classify(o directory.Object, rules Rules) store.Object {
	out := store.Object{GUID: store.GUID(o.GUID), Class: classOf(&o), DN: o.DN, USN: o.USN}
	if o.Deleted {
		out.Deleted = true
		return out
	}
	out.Container = isContainer(&o)
	if !isRecipient(&o, rules) {
		return out
	}
	for _, name := range rules.attributes() {
		for _, v := range o.Values {
			if !strings.EqualFold(v.Attribute, name) {
				continue
			}
			addValue(&out, name, v, rules.RefuseOutside && o.InternalOnly)
		}
	}
	return out
}

// addValue adds the addresses of one value to what an object owns.
func addValue(o *store.Object, attribute string, v directory.Value, restricted bool) {
	list, reason := readValue(v)
	for _, a := range list {
		o.Addresses = append(o.Addresses, store.Owned{Address: a, Attribute: attribute, InternalOnly: restricted})
	}
	if reason != "" {
		o.Unparsed++
		o.Unread = append(o.Unread, store.UnreadValue{Attribute: attribute, Value: v.Raw, Reason: reason})
	}
}

func isRecipient(o *directory.Object, rules Rules) bool {
	switch {
	case o.ManagedService || o.HasClass("computer"):
		return false
	case !slices.ContainsFunc(recipientClasses, o.HasClass):
		return false
	case !rules.owns(o.DN):
		return false
	case rules.OmitSystem && isOneOf(o.RecipientType, systemTypes):
		return false
	case rules.OmitDisabled && o.Disabled && !isOneOf(o.RecipientType, disabledTypes):
		return false
	}
	return true
}

func isContainer(o *directory.Object) bool {
	return slices.ContainsFunc(containerClasses, o.HasClass)
}

// classOf is the word for an object that people know.
func classOf(o *directory.Object) string {
	for _, class := range slices.Concat(recipientClasses, containerClasses) {
		if o.HasClass(class) {
			return class
		}
	}
	if len(o.Classes) > 0 {
		return o.Classes[len(o.Classes)-1]
	}
	return ""
}

func (r Rules) attributes() []string {
	if r.Attributes == nil {
		return []string{"proxyaddresses", "mail"}
	}
	lower := make([]string, len(r.Attributes))
	for i, name := range r.Attributes {
		lower[i] = strings.ToLower(name)
	}
	return lower
}

// addressForm is raised when the same values of a directory begin to stand for other
// addresses. Every index is read anew then.
const addressForm = 3

// fingerprint tells two sets of rules apart.
func (r Rules) fingerprint() string {
	return fmt.Sprintf("form=%d attributes=%q bases=%q exclude=%q outside=%t system=%t disabled=%t classes=%q",
		addressForm, r.attributes(), foldedDNs(r.Bases), foldedDNs(r.Exclude),
		r.RefuseOutside, r.OmitSystem, r.OmitDisabled, recipientClasses)
}

// foldedDNs makes lists of names comparable.
func foldedDNs(list []string) []string {
	folded := make([]string, len(list))
	for i, dn := range list {
		folded[i] = foldDN(dn)
	}
	slices.Sort(folded)
	return folded
}

// owns reports whether objects of this name count: in the bases, and not excluded.
func (r Rules) owns(dn string) bool {
	return inBases(dn, r.Bases) && (len(r.Exclude) == 0 || !inBases(dn, r.Exclude))
}

// borders are the subtrees at whose tops objects begin or cease to count.
func (r Rules) borders() []string { return slices.Concat(r.Bases, r.Exclude) }

// inBases reports whether a name is one of the bases or below one.
func inBases(dn string, bases []string) bool {
	if len(bases) == 0 {
		return true
	}
	dn = foldDN(dn)
	return slices.ContainsFunc(bases, func(base string) bool {
		base = foldDN(base)
		return dn == base || strings.HasSuffix(dn, ","+base)
	})
}

// foldDN makes names comparable: lower case, one way to escape, without the spaces that
// people write after commas and around equal signs (RFC 4514 has none; escaped ones
// stay).
func foldDN(dn string) string {
	var out strings.Builder
	escaped, skip := false, true // skip: spaces here mean nothing
	for _, r := range strings.ToLower(plainDN(dn)) {
		switch {
		case escaped:
			escaped, skip = false, false
		case r == '\\':
			escaped, skip = true, false
		case r == ',' || r == '=':
			trimmed := strings.TrimRight(out.String(), " ")
			if !strings.HasSuffix(trimmed, `\`) {
				out.Reset()
				out.WriteString(trimmed)
			}
			skip = true
		case r == ' ' && skip:
			continue
		default:
			skip = false
		}
		out.WriteRune(r)
	}
	return strings.TrimRight(out.String(), " ")
}

// plainDN takes away the escapes that a name can do without: octets in hexadecimal, and
// characters that need none where they stand (RFC 4514 section 2.4).
func plainDN(dn string) string {
	if !strings.Contains(dn, `\`) {
		return dn
	}
	var out strings.Builder
	for i := 0; i < len(dn); i++ {
		if dn[i] != '\\' || i+1 == len(dn) {
			out.WriteByte(dn[i])
			continue
		}
		c := dn[i+1]
		if i+2 < len(dn) {
			if octet, err := strconv.ParseUint(dn[i+1:i+3], 16, 8); err == nil {
				c = byte(octet)
				i++
			}
		}
		i++
		switch {
		case c < ' ':
			fmt.Fprintf(&out, `\%02x`, c)
		case strings.IndexByte(`,+"\<>; `, c) >= 0:
			out.WriteByte('\\')
			fallthrough
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}
