package main

import (
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/control"
)

// TestUnparsedLines: the status names the first values, in characters that can be seen,
// and counts the rest.
func TestUnparsedLines(t *testing.T) {
	value := func(name, attribute, value, reason string) control.UnparsedValue {
		return control.UnparsedValue{Directory: "corp", DN: "CN=" + name + ",DC=corp,DC=example", Attribute: attribute,
			Value: value, Reason: reason}
	}
	all := []control.UnparsedValue{
		value("Ann", "proxyAddresses", "smtp:an\u200bn@x.test", "it contains the invisible character U+200B; remove it"),
		value("Bo\x1bb", "uSNChanged", "", "this account cannot read it"),
	}
	for i := range 4 {
		all = append(all, value(fmt.Sprint("u", i), "mail", "none", "no @"))
	}
	for _, c := range []struct {
		count int64
		named int
		want  []string // "!" in front: not in it
	}{
		{2, 2, []string{"2 values in the directories that cannot be read as an address",
			`CN=Ann,DC=corp,DC=example: proxyAddresses smtp:an\u200bn@x.test: it contains the invisible character U+200B; remove it`,
			`CN=Bo\x1bb,DC=corp,DC=example: uSNChanged: this account cannot read it`, "!status --json"}},
		{2, 0, []string{"2 values", "!CN="}}, // a daemon of before
		{6, 6, []string{"CN=u0,", "!CN=u1,", "and 3 others; \"rcpt-milter status --json\" lists them"}},
		{5000, 6, []string{"CN=u0,", "and 4,997 others"}},
		{0, 0, []string{"!values"}},
	} {
		a, out := pageApp()
		s := freshStatus()
		s.Unparsed, s.UnparsedValues = c.count, all[:c.named]
		if err := a.printStatus(s); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			absent, no := strings.CutPrefix(want, "!")
			if strings.Contains(out.String(), absent) == no {
				t.Errorf("of %d values status says\n%swant %q", c.count, out, want)
			}
		}
	}
}
