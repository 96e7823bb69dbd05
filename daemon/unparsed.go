package daemon

import (
	"rcpt-milter/control"
	"rcpt-milter/store"
)

// maxUnparsed limits the unusable values that the status lists.
const maxUnparsed = 1000

// unparsedValues returns the directory values that need correction. It ignores errors of the store, which other
// parts of the status report.
func (b backend) unparsedValues(count int64) []control.UnparsedValue {
	if count == 0 {
		return nil
	}
	list, err := b.store.Unread(maxUnparsed)
	if err != nil {
		return nil
	}
	var out []control.UnparsedValue
	for _, u := range list {
		out = append(out, unparsedOf(u.Directory, u.DN, u.UnreadValue))
	}
	return out
}

func unparsedOf(directory, dn string, v store.UnreadValue) control.UnparsedValue {
	return control.UnparsedValue{Directory: directory, DN: dn,
		Attribute: schemaSpelling(v.Attribute), Value: v.Value, Reason: v.Reason}
}
