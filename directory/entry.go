package directory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// objectAttributes are read of every object in addition to its addresses.
var objectAttributes = []string{
	"objectGUID", "objectClass", "uSNChanged", "uSNCreated", "whenChanged", "isDeleted", "isRecycled",
	"userAccountControl", "msExchRequireAuthToSendTo", "msExchRecipientTypeDetails",
}

// identityAttributes are enough to identify an object.
var identityAttributes = []string{"objectGUID", "objectClass"}

// accountDisabled is ADS_UF_ACCOUNTDISABLE of userAccountControl (MS-ADTS 2.2.16).
const accountDisabled = 0x2

// managedClasses are the classes of machines that log on by themselves.
var managedClasses = []string{classComputer, "msds-managedserviceaccount", "msds-groupmanagedserviceaccount"}

// partialObject is an object together with the attributes whose values are incomplete.
type partialObject struct {
	Object
	pending []pendingRange
	size    int // bytes of Values
}

// pendingRange describes the values of an attribute that are still to be read.
type pendingRange struct {
	attribute string // lower case
	next      int    // index of the first one
}

// parseEntry converts an entry to an Object. An entry without identity or class cannot be
// classified: the error fails the pass. An entry may hide its USN.
func (c *Conn) parseEntry(e *ldap.Entry) (partialObject, error) {
	o := partialObject{Object: Object{DN: e.DN}}
	for _, a := range e.Attributes {
		name, span, ok := parseDescription(a.Name)
		if !ok || span.low != 0 {
			return o, newError(ErrProtocol, "%q has attribute %q, which was not requested", e.DN, a.Name)
		}
		isName := func(n string) bool { return strings.EqualFold(n, name) }
		if slices.ContainsFunc(c.config.AddressAttributes, isName) {
			o.addValues(name, a.Values)
			if next := span.next(); next > 0 {
				o.pending = append(o.pending, pendingRange{name, next})
			}
		}
		if len(a.Values) > 0 {
			if err := o.setAttribute(name, a); err != nil {
				return o, newError(ErrProtocol, "%q: %s: %w", e.DN, a.Name, err)
			}
		}
	}
	if strings.Contains(e.DN, `\0ADEL:`) { // even if isDeleted is unreadable
		o.Deleted = true
	}
	if !o.Deleted {
		o.Deletion = Origin{} // of a deletion that was undone
	}
	return o, o.validate()
}

// setAttribute sets the field for one attribute, which has at least one value.
func (o *partialObject) setAttribute(name string, a *ldap.EntryAttribute) (err error) {
	first := a.Values[0]
	switch name {
	case "objectguid":
		o.GUID, err = parseGUID(a.ByteValues[0])
	case "usnchanged":
		o.USN, err = parseUSN(first)
	case "objectclass":
		for _, class := range a.Values {
			o.Classes = append(o.Classes, strings.ToLower(class))
		}
		isManaged := func(class string) bool { return slices.Contains(managedClasses, class) }
		o.ManagedService = slices.ContainsFunc(o.Classes, isManaged)
	case "usncreated":
		o.Created, _ = parseUSN(first)
	case "whenchanged":
		o.Changed, _ = parseTime(first)
	case "isdeleted", "isrecycled":
		o.Deleted = o.Deleted || first == "TRUE"
	case metaDataKey:
		o.Deletion = parseOrigin(a.ByteValues[0], attrIsDeleted)
	case "useraccountcontrol":
		var control int64
		control, err = strconv.ParseInt(first, 10, 64)
		o.Disabled = control&accountDisabled != 0
	case "msexchrequireauthtosendto":
		o.InternalOnly = first == "TRUE"
	case "msexchrecipienttypedetails":
		o.RecipientType, err = strconv.ParseInt(first, 10, 64)
	}
	return err
}

func (o *partialObject) addValues(attribute string, values []string) {
	for _, v := range values {
		o.Values = append(o.Values, Value{Attribute: attribute, Raw: v})
		o.size += len(v)
	}
}

// validate returns an error if an attribute that everything else depends on is missing.
func (o *partialObject) validate() error {
	switch {
	case o.GUID.IsZero():
		return newError(ErrProtocol, "%q has no readable objectGUID; give this account the right to read it", o.DN)
	case len(o.Classes) == 0:
		return newError(ErrProtocol, "%q has no readable objectClass; give this account the right to read it", o.DN)
	}
	return nil
}

// parseGUID converts the 16 bytes of a GUID in wire order.
func parseGUID(raw []byte) (GUID, error) {
	var guid GUID
	if len(raw) != len(guid) {
		return guid, fmt.Errorf("a GUID has 16 bytes, got %d", len(raw))
	}
	copy(guid[:], raw)
	if guid.IsZero() {
		return guid, fmt.Errorf("the GUID is all zeros")
	}
	return guid, nil
}
