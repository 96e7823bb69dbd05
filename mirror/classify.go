package mirror

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// Rules define which objects of a directory are recipients. A change of a rule changes the fingerprint, which
// leads to a full pass.
type Rules struct {
	// Attributes are the attributes with addresses; nil means proxyAddresses and mail. The index records the
	// first attribute that has an address.
	Attributes []string
	// Bases are the subtrees whose objects count; empty means all.
	Bases []string
	// Exclude are subtrees whose objects do not count.
	Exclude []string
	// InternalOnly applies msExchRequireAuthToSendTo: such recipients accept no mail from
	// outside senders. Otherwise the attribute is ignored.
	InternalOnly bool
	// OmitSystem omits system mailboxes (systemTypes).
	OmitSystem bool
	// OmitDisabled omits disabled accounts, except those of mailboxes whose accounts are always disabled
	// (disabledTypes).
	OmitDisabled bool
	// Published means that the objects come from the stream of a hub, which has applied its own
	// rules: an object owns exactly the addresses that it shows. The other rules have no effect.
	Published bool
}

var (
	recipientClasses = directory.RecipientClasses()
	containerClasses = directory.ContainerClasses() // watched: moving one moves the unchanged objects below it
)

// classify returns what an object owns. It is a pure function, and the only definition of a recipient. An
// object that is not a recipient owns nothing, which tells the store when an object stops being one.
func classify(o directory.Object, rules Rules) store.Object {
	out := store.Object{GUID: storeGUID(o.GUID), Class: classOf(&o), DN: o.DN, USN: o.USN}
	if o.Deleted {
		out.Deleted = true
		return out
	}
	if rules.Published {
		addPublished(&out, &o)
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
			addValue(&out, name, v, rules.InternalOnly && o.InternalOnly)
		}
	}
	return out
}

// addValue adds the addresses of one value to those of an object.
func addValue(o *store.Object, attribute string, v directory.Value, internalOnly bool) {
	list, reason := readValue(v)
	for _, a := range list {
		o.Addresses = append(o.Addresses, store.Owned{Address: a, Attribute: attribute, InternalOnly: internalOnly})
	}
	if reason != "" {
		o.Unparsed++
		o.Unread = append(o.Unread, store.UnreadValue{Attribute: attribute, Value: v.Raw, Reason: reason})
	}
}

func isRecipient(o *directory.Object, rules Rules) bool {
	switch {
	case o.ManagedService:
		return false
	case !slices.ContainsFunc(recipientClasses, o.HasClass):
		return false
	case !rules.inScope(o.DN):
		return false
	case rules.OmitSystem && hasType(o.RecipientType, systemTypes):
		return false
	case rules.OmitDisabled && o.Disabled && !hasType(o.RecipientType, disabledTypes):
		return false
	}
	return true
}

func isContainer(o *directory.Object) bool {
	return slices.ContainsFunc(containerClasses, o.HasClass)
}

// classOf returns the class as an administrator would name it.
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
	names := r.Attributes
	if names == nil {
		names = directory.DefaultAddressAttributes()
	}
	lower := make([]string, len(names))
	for i, name := range names {
		lower[i] = strings.ToLower(name)
	}
	return lower
}

// addressForm is incremented when the same directory values start to mean other addresses. Each index is then
// read again in full.
const addressForm = 4

// publishedForm is incremented when this program can read stream messages that it could not read before. Each
// index of a stream is then read again in full.
const publishedForm = 1

// fingerprint identifies a set of rules.
func (r Rules) fingerprint() string {
	if r.Published {
		return fmt.Sprintf("form=%d published=%d", addressForm, publishedForm)
	}
	return fmt.Sprintf("form=%d attributes=%q bases=%q exclude=%q outside=%t system=%t disabled=%t classes=%q",
		addressForm, r.attributes(), foldedDNs(r.Bases), foldedDNs(r.Exclude),
		r.InternalOnly, r.OmitSystem, r.OmitDisabled, recipientClasses)
}

// foldedDNs returns DNs in comparable form.
func foldedDNs(list []string) []string {
	folded := make([]string, len(list))
	for i, dn := range list {
		folded[i] = foldDN(dn)
	}
	slices.Sort(folded)
	return folded
}

// inScope reports whether an object with this DN counts: it is in the bases and not excluded.
func (r Rules) inScope(dn string) bool {
	return inBases(dn, r.Bases) && (len(r.Exclude) == 0 || !inBases(dn, r.Exclude))
}

// scopeBorders returns the tops of the subtrees at which the scope begins or ends.
func (r Rules) scopeBorders() []string { return slices.Concat(r.Bases, r.Exclude) }

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

// foldDN returns a DN in comparable form: in lower case, with uniform escaping, and without the spaces that
// people write after commas and around equal signs. RFC 4514 has no such spaces. Escaped spaces stay.
func foldDN(dn string) string {
	var out strings.Builder
	escaped, skip := false, true // skip: unescaped spaces here have no meaning
	for _, r := range strings.ToLower(unescapeDN(dn)) {
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

// unescapeDN removes unnecessary escapes from a DN: hexadecimal bytes, and escapes of characters that need none
// at their position (RFC 4514 section 2.4).
func unescapeDN(dn string) string {
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
			if value, err := strconv.ParseUint(dn[i+1:i+3], 16, 8); err == nil {
				c = byte(value)
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
