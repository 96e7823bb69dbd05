package config

import (
	"errors"
	"testing"
)

// doubtful: in stands before the smallest file.
var doubtful = []bad{
	{`accept: ["@example.net"]`, `1:10: accept[0]: "@example.net" has no effect, because "example.net" is not judged here; add it to domains, or leave the entry out`},
	{`accept: [a@example.com, A@a.example.com]`, `1:25: accept[1]: "a@a.example.com" has no effect, because "a.example.com" is not judged here; add it to domains, or leave the entry out`},
	{`refuse: [x@example.net]`, `1:10: refuse[0]: "x@example.net" has no effect, because "example.net" is not judged here; add it to domains, or leave the entry out`},
	{"accept: [x@example.com, y@example.com]\nrefuse: [Y@example.com]", `2:10: refuse[0]: "y@example.com" is in accept as well (accept[1]), which comes first`},
	{`refuse: [Abuse@example.com]`, `1:10: refuse[0]: "abuse@example.com" is never refused, because always_accept has "abuse"; take it out there`},
	{"recipient_delimiter: +\nrefuse: [abuse+x@example.com]", `2:10: refuse[0]: "abuse+x@example.com" is never refused, because always_accept has "abuse"; take it out there`},
	{`accept: ["smtp:x@example.com"]`, `1:10: accept[0]: "smtp:x@example.com" can never match: "smtp:" in front is no part of an address; write "x@example.com"`},
	{`accept: [a@example.com, "*@example.com"]`, `1:25: accept[1]: "*@example.com" can never match: wildcards are not supported; write "@example.com" for all recipients of a domain`},
	{`refuse: ["mailto:x@example.com"]`, `1:10: refuse[0]: "mailto:x@example.com" can never match: "mailto:" in front is no part of an address; write "x@example.com"`},
	{`refuse: ["a@example.com;b@example.com"]`, `1:10: refuse[0]: "a@example.com;b@example.com" can never match: it holds several addresses; write each as an entry of its own`},
	{`canaries: {accept: ["SMTP:x@example.com"]}`, `1:21: canaries.accept[0]: "SMTP:x@example.com" can never match: "SMTP:" in front is no part of an address; write "x@example.com"`},
	{`canaries: {refuse: ["/^x@example.com$/"]}`, `1:21: canaries.refuse[0]: "/^x@example.com$/" can never match: it is a pattern of a regexp or pcre table; use accept_patterns`},
}

// TestDoubtful: what the order of the lists settles is said, and is no error.
func TestDoubtful(t *testing.T) {
	for _, c := range doubtful {
		got, err := Parse("config.yaml", []byte(c.in+"\n"+smallest))
		if err != nil {
			t.Errorf("Parse of\n%s\ngives %v", c.in, err)
			continue
		}
		want := "config.yaml:" + c.want
		if w := errors.Join(got.Warnings()...); w == nil || w.Error() != want {
			t.Errorf("Parse of\n%s\nwarns %v\nwant  %s", c.in, w, want)
		}
	}
	got, err := Parse("config.yaml", []byte("accept: [a@example.com]\n"+smallest))
	if err != nil || len(got.Warnings()) > 0 {
		t.Errorf("an entry that has an effect: %v, warnings %v", err, got.Warnings())
	}
}
