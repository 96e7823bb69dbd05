package console

import (
	"fmt"
	"testing"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
)

// TestUnparsedLines: the status names the first values, in characters that can be seen,
// and counts the rest.
func TestUnparsedLines(t *testing.T) {
	value := func(name, attribute, value, reason string) control.UnparsedValue {
		return control.UnparsedValue{Directory: "corp", DN: "CN=" + name + ",DC=corp,DC=example", Attribute: attribute,
			Value: value, Reason: reason}
	}
	all := []control.UnparsedValue{
		value("Ann", "proxyAddresses", "smtp:an\u200bn@x.test",
			"it contains the invisible character U+200B; remove it"),
		value("Bo\x1bb", "uSNChanged", "", "this account cannot read it"),
	}
	for i := range 4 {
		all = append(all, value(fmt.Sprint("u", i), "mail", "none", "no @"))
	}
	for _, c := range []struct {
		file  string
		count int64
		named int // values that the status names
	}{
		{"unparsed-few.txt", 2, 2},
		{"unparsed-unnamed.txt", 2, 0}, // an earlier version of the daemon names none
		{"unparsed-more.txt", 6, 6},
		{"unparsed-many.txt", 5000, 6},
	} {
		t.Run(c.file, func(t *testing.T) {
			var p terminal.Page
			unparsed(&p, control.Status{Unparsed: c.count, UnparsedValues: all[:c.named]})
			compare(t, c.file, p.String())
		})
	}
}
