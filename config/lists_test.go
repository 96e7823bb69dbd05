package config

import (
	"errors"
	"strings"
	"testing"
)

// suspiciousLists: in stands before the smallest file.
var suspiciousLists = []string{
	`accept: ["@example.net"]`,
	`accept: [a@example.com, A@a.example.com]`,
	`refuse: [x@example.net]`,
	"accept: [x@example.com, y@example.com]\nrefuse: [Y@example.com]",
	`refuse: [Abuse@example.com]`,
	"recipient_delimiter: +\nrefuse: [abuse+x@example.com]",
	`accept: ["smtp:x@example.com"]`,
	`accept: [a@example.com, "*@example.com"]`,
	`refuse: ["mailto:x@example.com"]`,
	`refuse: ["a@example.com;b@example.com"]`,
	`accept: [info@example.com bob@example.com]`,
	"accept:\n  - info@example.com\n    - bob@example.com",
	`refuse: [info@@example.com]`,
	`canaries: {accept: [info@example.com bob@example.com]}`,
	`accept: [":ann@example.com"]`,
	`accept_patterns: ['/srs0=.*/']`,
	`accept_patterns: ['b@example\.com', '/^srs0=.*@example\.com$/i']`,
	`canaries: {accept: ["SMTP:x@example.com"]}`,
	`canaries: {refuse: ["/^x@example.com$/"]}`,
}

// TestSuspiciousLists: what the order of the lists settles is said, and is no error.
func TestSuspiciousLists(t *testing.T) {
	g := openGolden(t, "warnings-lists.txt")
	for _, in := range suspiciousLists {
		g.run(t, in, func(t *testing.T) string {
			got, err := Parse("config.yaml", []byte(in+"\n"+smallest))
			if err != nil || len(got.Warnings()) != 1 {
				t.Fatalf("Parse: %v, expected one warning", err)
			}
			return got.Warnings()[0].Error()
		})
	}
	for _, in := range []string{`accept: [a@example.com]`, `accept_patterns: ['/s=.*@example\.com']`,
		`accept_patterns: ['/s=a/p=b@example\.com']`} {
		t.Run(in, func(t *testing.T) {
			got, err := Parse("config.yaml", []byte(in+"\n"+smallest))
			if err != nil || len(got.Warnings()) > 0 {
				t.Errorf("an entry that has an effect: %v, warnings %v", err, got.Warnings())
			}
		})
	}
}

// TestImpossibleDomains: a domain that no recipient can have is reported, in the form in which it is written.
func TestImpossibleDomains(t *testing.T) {
	g := openGolden(t, "warnings-domains.txt")
	for _, c := range []struct {
		in    string
		warns bool
	}{
		{"{example.com/: enforce}", true},
		{"{.example.com/: enforce}", true},
		{"{" + strings.Repeat("a", 64) + ".example: enforce}", true},
		{"{example.com: enforce}\ndomain_aliases: {example.com: example.org/}", true},
		{"{example.com: enforce, .example.com: enforce, _x.example: pass}", false},
		{"{bücher.example: enforce, .bücher.example: pass}", false},
		{"{'[192.0.2.1]': enforce}", false},
		{"{example.com: enforce}\ndomain_aliases: {example.com: example.org}", false},
	} {
		g.run(t, c.in, func(t *testing.T) string {
			got, err := Parse("config.yaml", []byte("domains: "+c.in+"\n"+oneDirectory))
			if err != nil || (len(got.Warnings()) > 0) != c.warns {
				t.Fatalf("Parse: %v, expected a warning: %v", err, c.warns)
			}
			if !c.warns {
				return ""
			}
			return errors.Join(got.Warnings()...).Error()
		})
	}
}
