package main

import (
	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
	"rcpt-milter/store"
)

const (
	// maxUnparsed is how many values to be corrected the status lists.
	maxUnparsed = 1000
	// shownUnparsed is how many of them the status for people shows.
	shownUnparsed = 3
)

// unparsedValues are the directory values that are to be corrected. An error of the store
// is reported by whatever else reads it.
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
		Attribute: spelled(v.Attribute), Value: v.Value, Reason: v.Reason}
}

// unparsed writes how many directory values are to be corrected, and the first of them.
func unparsed(p *terminal.Page, s control.Status) {
	p.Line("unreadable", text.Count(s.Unparsed, "value", "values")+" in the directories that cannot be read as an address")
	for _, v := range s.UnparsedValues[:min(len(s.UnparsedValues), shownUnparsed)] {
		p.More(unparsedLine(v))
	}
	if more := s.Unparsed - shownUnparsed; more > 0 && len(s.UnparsedValues) > shownUnparsed {
		p.More("and " + text.Count(more, "other", "others") + "; \"rcpt-milter status --json\" lists them")
	}
}

// unparsedLine names one value for people. Characters that cannot be seen are written as
// escapes.
func unparsedLine(v control.UnparsedValue) string {
	line := text.Printable(v.DN) + ": " + text.Printable(v.Attribute)
	if v.Value != "" {
		line += " " + text.Printable(v.Value)
	}
	return line + ": " + text.Printable(v.Reason)
}
