package mirror

import (
	"slices"
	"strings"
	"testing"

	"rcpt-milter/address"
	"rcpt-milter/directory"
)

// valueCases are values of proxyAddresses, or of mail after "mail=", with their addresses and a part of the
// expected reason. An empty reason means that they are not reported.
var valueCases = []struct{ name, value, want, reason string }{
	{"primary", "SMTP:Ann@X.test", "ann@x.test", ""},
	{"secondary", "smtp:ann@x.test", "ann@x.test", ""},
	{"mixed case of the type", "sMtP:ann@x.test", "ann@x.test", ""},
	{"mail", "mail=ann@x.test", "ann@x.test", ""},
	{"mail with a type", "mail=SMTP:ann@x.test", "ann@x.test", ""},

	{"space before the type", " smtp:ann@x.test", "ann@x.test", ""},
	{"tab before the type", "\tsmtp:ann@x.test", "ann@x.test", ""},
	{"space after the type", "smtp :ann@x.test", "ann@x.test", ""},
	{"space after the colon", "smtp: ann@x.test", "ann@x.test", ""},
	{"space behind", "smtp:ann@x.test ", "ann@x.test", ""},
	{"line end behind", "smtp:ann@x.test\r\n", "ann@x.test", ""},
	{"space around mail", "mail= ann@x.test\n", "ann@x.test", ""},
	{"white space only", "smtp:  ", "", "no @"},
	{"mail of white space", "mail=  ", "", ""},

	{"no type", "ann@x.test", "", reasonNoType},
	{"empty type", ":ann@x.test", "", reasonNoType},
	{"semicolon in place of the colon", "SMTP;ann@x.test", "", reasonNoType},
	{"type in full width", "ＳＭＴＰ:ann@x.test", "", reasonNoType},
	{"no type, display name", "Ann Smith <ann@x.test>", "", reasonNoType},
	{"no type and no address", "ann", "", ""},
	{"type twice", "smtp:smtp:ann@x.test", "", reasonTwice},
	{"type twice in two cases", "SMTP:smtp:ann@x.test", "", reasonTwice},
	{"type twice with spaces", "smtp: smtp : ann@x.test", "", reasonTwice},
	{"type twice in mail", "mail=smtp:smtp:ann@x.test", "", reasonTwice},
	{"mailto", "mail=mailto:ann@x.test", "", reasonMailto},
	{"mailto in proxyAddresses", "MAILTO:ann@x.test", "", reasonMailto},
	{"mailto after the type", "smtp:mailto:ann@x.test", "", reasonMailto},
	{"mailto with a subject", "mail=mailto:ann@x.test?subject=x", "", reasonMailto},
	{"a word before the address", "mail=work:ann@x.test", "", reasonOtherTag},

	{"two in mail", "mail=ann@x.test;bob@x.test", "ann@x.test bob@x.test", ""},
	{"two with a comma and a space", "mail=ann@x.test, Bob@x.test", "ann@x.test bob@x.test", ""},
	{"three, separators of both kinds", "mail=a@x.test; b@x.test,c@x.test;", "a@x.test b@x.test c@x.test", ""},
	{"two with a space", "mail=ann@x.test bob@x.test", "ann@x.test bob@x.test", ""},
	{"two on two lines", "mail=ann@x.test\r\nbob@x.test", "ann@x.test bob@x.test", ""},
	{"two with types", "mail=smtp:ann@x.test;smtp:bob@x.test", "ann@x.test bob@x.test", ""},
	{"two of two types", "mail=ann@x.test;sip:ann@sip.test", "ann@x.test", ""},
	{"two in proxyAddresses", "smtp:ann@x.test;bob@x.test", "ann@x.test bob@x.test", ""},
	{"two with a space after a semicolon", "mail=ann@x.test;bob@x.test carl@x.test",
		"ann@x.test bob@x.test carl@x.test", ""},
	{"two with a space before a semicolon", "smtp:ann@x.test bob@x.test;carl@x.test",
		"ann@x.test bob@x.test carl@x.test", ""},
	{"lines and a comma", "mail=ann@x.test,\r\nbob@x.test\r\ncarl@x.test", "ann@x.test bob@x.test carl@x.test", ""},
	{"two with a space beside a word", "mail=ann@x.test bob@x.test;carl", "ann@x.test bob@x.test", "no @"},
	{"two with a space after a word", "mail=Smith, ann@x.test bob@x.test", "ann@x.test bob@x.test", "no @"},
	{"an address before a separator in a local part", "mail=ann@x.test;smith,bob@x.test", "ann@x.test bob@x.test",
		"no @"},
	{"space before the @ of the second", "mail=ann@x.test;bob @x.test", "ann@x.test bob@x.test", reasonSpace},
	{"space in the local part of the second", "mail=ann@x.test;bob b@x.test", `ann@x.test "bob b"@x.test`, ""},
	{"space in quotes of the second", `mail=ann@x.test;"b@y c@y"@x.test`, `ann@x.test "b@y c@y"@x.test`, ""},
	{"separator at the end", "mail=ann@x.test;", "ann@x.test", ""},
	{"one of two readable", "mail=ann@x.test;bob@", "ann@x.test", "empty label"},
	{"one of two with a domain", "mail=ann@x.test;bob", "ann@x.test", "no @"},
	{"separator in quotes", `mail="ann;b"@x.test`, `"ann;b"@x.test`, ""},
	{"separator and @ in quotes", `mail="a@x,b@y"@x.test`, `"a@x,b@y"@x.test`, ""},
	{"quotes, then a second one", `mail="a,b"@x.test,c@x.test`, `"a,b"@x.test c@x.test`, ""},
	{"separator in a local part", "smtp:a,b@x.test", `"a,b"@x.test`, ""},
	{"display names", "mail=Ann <ann@x.test>; Bob <bob@x.test>", "", "outside quotes"},

	{"zero width space behind", "smtp:ann@x.test\u200b", "ann@x.test", "U+200B"},
	{"zero width space before the type", "\u200bsmtp:ann@x.test", "ann@x.test", "U+200B"},
	{"zero width space after the type", "smtp:\u200bann@x.test", "ann@x.test", "U+200B"},
	{"byte order mark in front", "\ufeffsmtp:ann@x.test", "ann@x.test", "U+FEFF"},
	{"byte order mark in front of mail", "mail=\ufeffann@x.test", "ann@x.test", "U+FEFF"},
	{"no-break space behind", "smtp:ann@x.test\u00a0", "ann@x.test", "U+00A0"},
	{"soft hyphen behind", "smtp:ann@x.test\u00ad", "ann@x.test", "U+00AD"},
	{"marks of direction around", "smtp:\u202aann@x.test\u202c", "ann@x.test", "U+202C"},
	{"space and no-break space", "smtp:ann@x.test \u00a0 ", "ann@x.test", "U+00A0"},
	{"in the second of two", "mail=ann@x.test;\u200bbob@x.test", "ann@x.test bob@x.test", "U+200B"},
	{"zero width space inside", "smtp:an\u200bn@x.test", "", "U+200B"},
	{"zero width joiner inside", "smtp:an\u200dn@x.test", "", "U+200D"},
	{"word joiner inside", "mail=an\u2060n@x.test", "", "U+2060"},
	{"byte order mark inside", "smtp:an\ufeffn@x.test", "", "U+FEFF"},
	{"soft hyphen inside", "smtp:an\u00adn@x.test", "", "U+00AD"},
	{"no-break space inside", "smtp:ann\u00a0smith@x.test", "", "U+00A0"},
	{"ideographic space inside", "smtp:ann\u3000smith@x.test", "", "U+3000"},
	{"mark of direction inside", "smtp:ann\u202esmith@x.test", "", "U+202E"},
	{"before the @", "smtp:ann\u200b@x.test", "", "U+200B"},
	{"in quotes", "smtp:\"ann\u200b smith\"@x.test", "", "U+200B"},
	{"after the @", "smtp:ann@\u200bx.test", "ann@x.test", "U+200B"},
	{"soft hyphen in the domain", "smtp:ann@ex\u00adample.test", "ann@example.test", "U+00AD"},
	{"no-break space in the domain", "smtp:ann@x\u00a0y.test", "", "not allowed in a domain"},
	{"mark of direction in the domain", "smtp:ann@x\u200ey.test", "", "disallowed rune"},
	{"joiner in a Persian domain", "smtp:ann@نامه\u200cای.test", "ann@xn--mgba3gch31f060k.test", ""},
	{"no-break space after the type", "smtp:\u00a0ann@x.test", "ann@x.test", "U+00A0"},
	{"no-break space before the colon", "smtp\u00a0:ann@x.test", "ann@x.test", "U+00A0"},
	{"no-break space between two", "mail=ann@x.test\u00a0bob@x.test", "ann@x.test bob@x.test", "U+00A0"},
	{"joiner in a Persian local part", "smtp:نامه\u200cای@x.test", "نامه\u200cای@x.test", ""},
	{"joiner in a symbol", "smtp:👩\u200d💻@x.test", "👩\u200d💻@x.test", ""},
	{"joiner at the end of a local part", "smtp:نامه\u200c@x.test", "", "U+200C"},
	{"joiner beside ASCII", "smtp:ن\u200ca@x.test", "", "U+200C"},
	{"two joiners", "smtp:ن\u200c\u200cن@x.test", "", "U+200C"},
	{"joiner between ASCII in the domain", "smtp:ann@x\u200cy.test", "ann@xn--xy-j1t.test", "U+200C"},
	{"invisible only", "mail=\u200b", "", ""},
	{"another type behind an invisible", "\ufeffX500:/o=x/cn=a@x.test", "", ""},

	{"whole domain", "smtp:*@x.test", "", reasonAsterisk},
	{"whole domain in quotes", `smtp:"*"@x.test`, "", reasonAsterisk},
	{"an asterisk without a type", "mail=*@x.test", "*@x.test", reasonAsterisk},
	{"all sub-domains", "smtp:ann@*.x.test", "", reasonAsterisk},
	{"domain with an @ only", "smtp:@x.test", "", "nothing before the @"},
	{"an asterisk in a word", "smtp:a*b@x.test", "a*b@x.test", ""},

	{"space before the @", "smtp:ann @x.test", "ann@x.test", reasonSpace},
	{"tab before the @", "mail=ann\t@x.test", "ann@x.test", reasonSpace},
	{"space before the @ in quotes", `smtp:"ann "@x.test`, `"ann "@x.test`, ""},
	{"escaped space before the @", `smtp:ann\ @x.test`, `"ann "@x.test "ann\\ "@x.test`, ""},
	{"space after the @", "smtp:ann@ x.test", "", "not allowed in a domain"},
	{"single quotes around", "smtp:'ann@x.test'", "", `"'"`},
	{"single quotes around mail", "mail='ann@x.test'", "", `"'"`},
	{"slash behind", "smtp:ann@x.test/", "", `"/"`},
	{"query behind", "smtp:ann@x.test?subject=x", "", `"?"`},
	{"underscore in the domain", "smtp:ann@a_b.test", "ann@a_b.test", ""},
	{"label too long", "smtp:ann@" + strings.Repeat("a", 64) + ".test", "", "longer than DNS allows"},
	{"long local part", "smtp:" + strings.Repeat("a", 65) + "@x.test", strings.Repeat("a", 65) + "@x.test", ""},
	{"another type after the type", "smtp:sip:ann@x.test", `"sip:ann"@x.test`, reasonForeign},
	{"address literal", "smtp:ann@[192.0.2.1]", "ann@[192.0.2.1]", ""},

	{"brackets", "smtp:(p)@x.test", `"(p)"@x.test`, ""},
	{"brackets inside a word", "smtp:ann(p)smith@x.test", `"ann(p)smith"@x.test`, ""},
	{"an open bracket", "smtp:ann(@x.test", `"ann("@x.test`, ""},
	{"angle brackets", "smtp:<ann>@x.test", `"<ann>"@x.test`, ""},
	{"square brackets", "smtp:[ann]@x.test", `"[ann]"@x.test`, ""},
	{"colon", "smtp:a:b@x.test", `"a:b"@x.test`, ""},
	{"comma", "smtp:smith,ann@x.test", `"smith,ann"@x.test`, ""},
	{"space", "smtp:ann smith@x.test", `"ann smith"@x.test`, ""},
	{"a quote inside", `smtp:ann"a@x.test`, `"ann\"a"@x.test`, ""},
	{"brackets in quotes", `smtp:"(p)"@x.test`, `"(p)"@x.test`, ""},
	{"backslash", `smtp:corp\ann@x.test`, `corpann@x.test "corp\\ann"@x.test`, ""},
	{"backslash in quotes", `smtp:"corp\\ann"@x.test`, `"corp\\ann"@x.test`, ""},
	{"quotes around", `smtp:"ann"@x.test`, "ann@x.test", ""},
	{"quote not closed", `smtp:"ann@x.test`, "", "quote not closed"},
	{"two @", "smtp:a@b@x.test", `"a@b"@x.test`, reasonSeveral},
	{"two @ side by side", "smtp:ann@@x.test", `"ann@"@x.test`, reasonSeveral},
	{"two @ in mail", "mail=a@b@x.test", `"a@b"@x.test`, reasonSeveral},
	{"two with a bar", "smtp:ann@x.test|bob@x.test", `"ann@x.test|bob"@x.test`, reasonSeveral},
	{"two with a slash", "mail=ann@x.test / bob@x.test", `"ann@x.test / bob"@x.test`, reasonSeveral},
	{"two with a word", "mail=ann@x.test or bob@x.test", `"ann@x.test or bob"@x.test`, reasonSeveral},
	{"two with a backslash", `mail=ann@x.test\bob@x.test`, `"ann@x.testbob"@x.test`, reasonSeveral},
	{"an @ in quotes", `smtp:"a@b"@x.test`, `"a@b"@x.test`, ""},
	{"an @ in quotes after a dot", `smtp:a."b@c"@x.test`, `"a.b@c"@x.test`, ""},
	{"an escaped @", `smtp:a\@b@x.test`, `"a@b"@x.test`, ""},
	{"colon twice", "smtp::ann@x.test", `":ann"@x.test`, reasonColon},
	{"colon twice and a space", "smtp: :ann@x.test", `":ann"@x.test`, reasonColon},
	{"colon before mail", "mail=:ann@x.test", `":ann"@x.test`, reasonColon},
	{"colon in quotes", `smtp:":ann"@x.test`, `":ann"@x.test`, ""},
	{"words before the address", "mail=foo bar:ann@x.test", `"foo bar:ann"@x.test`, reasonOtherTag},
	{"words before the second address", "mail=bob@x.test;foo bar:ann@x.test", `bob@x.test "foo bar:ann"@x.test`,
		reasonOtherTag},
	{"a colon in quotes in mail", `mail="foo bar:ann"@x.test`, `"foo bar:ann"@x.test`, ""},

	{"type with swapped letters", "smpt:ann@x.test", "", reasonMistyped},
	{"type with swapped first letters", "MSTP:ann@x.test", "", reasonMistyped},
	{"type with swapped letters inside", "stmp: ann@x.test", "", reasonMistyped},
	{"type without a letter", "smt:ann@x.test", "", reasonMistyped},
	{"type with another letter", "sntp:ann@x.test", "", reasonMistyped},
	{"type with a letter more", "smttp:ann@x.test", "", reasonMistyped},
	{"type with its last letter twice", "smtpp:ann@x.test", "", reasonMistyped},
	{"type with its first letter twice", "ssmtp:ann@x.test", "", reasonMistyped},
	{"smtps", "SMTPS:ann@x.test", "", reasonMistyped},
	{"mail as a type", "mail:ann@x.test", "", reasonMistyped},
	{"email as a type", "Email:ann@x.test;bob@x.test", "", reasonMistyped},
	{"e-mail as a type", "E-Mail:ann@x.test", "", reasonMistyped},
	{"mistyped without an address", "smpt:ann", "", ""},
	{"mistyped before a domain that cannot exist", "smpt:ann@x/y", "", ""},
	{"mistyped after the type", "smtp:smpt:ann@x.test", `"smpt:ann"@x.test`, reasonMistyped},
	{"mistyped in mail", "mail=smpt:ann@x.test", "", reasonOtherTag},
	{"a word before two with a space", "mail=work:ann@x.test bob@x.test", "bob@x.test", reasonOtherTag},
	{"brackets around all", "smtp:<ann@x.test>", "", "outside quotes"},
	{"comment behind", "smtp:ann@x.test (office)", "", "not allowed in a domain"},
	{"comma behind", "smtp:ann@x.test,", "ann@x.test", ""},

	{"nothing", "smtp:", "", "no @"},
	{"no @", "smtp:ann", "", "no @"},
	{"no domain", "smtp:ann@", "", "empty label"},
	{"space in the domain", "smtp:ann@x y.test", "", "not allowed in a domain"},
	{"two dots in the domain", "smtp:ann@x..test", "", "empty label"},
	{"dots where they do not belong", "smtp:.ann..smith.@x.test", ".ann..smith.@x.test", ""},
	{"not UTF-8", "smtp:ann\xff@x.test", "", "UTF-8"},
	{"too long", "smtp:" + strings.Repeat("a", 600) + "@x.test", "", "longer than"},
	{"letters of other scripts", "smtp:Jürgen@München.test", "jürgen@xn--mnchen-3ya.test", ""},

	{"X500", "X500:/o=x/ou=a/cn=ann@x.test", "", ""},
	{"x500 with a space", " x500: /o=x/cn=ann@x.test", "", ""},
	{"X400", "x400:c=US;a= ;p=x;o=Exchange;s=Smith;", "", ""},
	{"SIP", "sip:ann@x.test", "", ""},
	{"EUM", "EUM:ann@x.test;phone-context=x.test", "", ""},
	{"NOTES", "NOTES:Ann@x", "", ""},
	{"FAX", "FAX:+1", "", ""},
	{"a type of its own", "X-ARCHIVE:ann@x.test", "", ""},
	{"a type that begins with SMTP", "SMTPX:ann@x.test", "", ""},
	{"a type that ends with SMTP", "XSMTP:ann@x.test", "", ""},
	{"a type of two edits", "mtps:ann@x.test", "", ""},
	{"a short type", "MS:ann@x.test", "", ""},
	{"SIP in mail", "mail=sip:ann@x.test", "", ""},
	{"a telephone number in mail", "mail=tel:+1", "", ""},
	{"a word in mail", "mail=none", "", "no @"},
}

// TestReadValue checks each kind of value, and which kinds are reported.
func TestReadValue(t *testing.T) {
	for _, c := range valueCases {
		t.Run(c.name, func(t *testing.T) {
			list, reason := readValue(values(c.value)[0])
			var got []string
			for _, a := range list {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q stands for %q, want %q", c.value, got, c.want)
			}
			if !strings.Contains(reason, c.reason) || (reason == "") != (c.reason == "") {
				t.Errorf("%q is reported because %q, want %q", c.value, reason, c.reason)
			}
		})
	}
}

// TestUnreadableValueTakesNothingElse checks that an unusable value is reported, and that the other addresses
// of the object stay.
func TestUnreadableValueTakesNothingElse(t *testing.T) {
	for _, c := range valueCases {
		t.Run(c.name, func(t *testing.T) {
			o := directory.Object{Classes: []string{"top", "user"},
				Values: values("smtp:first@x.test", c.value, "smtp:last@x.test")}
			got := classify(o, Rules{})
			named := len(got.Unread) == 1 && got.Unread[0].Value == o.Values[1].Raw &&
				got.Unread[0].Attribute == o.Values[1].Attribute
			if (got.Unparsed == 1) != (c.reason != "") || named != (c.reason != "") {
				t.Errorf("%d reported, as %+v", got.Unparsed, got.Unread)
			}
			if n := len(got.Addresses); n < 2 {
				t.Errorf("%d addresses are left", n)
			}
		})
	}
}

// TestQuestionMeetsTheIndex checks that mail for a value, which arrives with a quoted local part if necessary,
// matches the form of the address in the index.
func TestQuestionMeetsTheIndex(t *testing.T) {
	for _, c := range []struct{ value, question string }{
		{"smtp:(p)@x.test", `"(p)"@x.test`},
		{"smtp:Ann (p) Smith@x.test", `"ann (p) smith"@x.test`},
		{"smtp:<ann>@x.test", `"<ann>"@x.test`},
		{"smtp:a,b@x.test", `"a,b"@x.test`},
		{`smtp:corp\ann@x.test`, `"corp\\ann"@x.test`},
		{`smtp:corp\ann@x.test`, `corp\ann@x.test`},
		{`smtp:ann"a@x.test`, `"ann\"a"@x.test`},
		{"smtp:john..doe@x.test", `"john..doe"@x.test`},
		{"smtp:Ünal(p)@München.test", "\"U\u0308NAL(P)\"@xn--mnchen-3ya.test"},
		{" smtp: ann@x.test ", "<Ann@X.test>"},
	} {
		t.Run(c.value+" "+c.question, func(t *testing.T) {
			list, _ := readValue(values(c.value)[0])
			asked, err := address.ParsePath(c.question)
			found := false
			for _, a := range list {
				found = found || a == asked
			}
			if err != nil || !found {
				t.Errorf("%q is indexed as %v, and %s is asked for as %v (%v)", c.value, list, c.question, asked, err)
			}
		})
	}
}

// FuzzReadValue checks that an address from any value is canonical: reading it again returns the same address.
// It must contain no invisible characters, and must not depend on white space around the value.
func FuzzReadValue(f *testing.F) {
	for _, c := range valueCases {
		raw, mail := strings.CutPrefix(c.value, "mail=")
		f.Add(raw, mail)
	}
	f.Fuzz(func(t *testing.T, raw string, mail bool) {
		v := directory.Value{Attribute: "proxyaddresses", Raw: raw}
		if mail {
			v.Attribute = "mail"
		}
		list, reason := readValue(v)
		for _, a := range list {
			again, err := address.Parse(a.String())
			if a.IsZero() || again != a {
				t.Errorf("%q stands for %q, which is read as %q (%v)", raw, a, again, err)
			}
			if r, found := address.FirstInvisible(a.String()); found {
				t.Errorf("%q stands for %q with %U in it", raw, a, r)
			}
			if a.Local() == "*" && reason == "" {
				t.Errorf("%q stands for all of %s", raw, a.Domain())
			}
		}
		v.Raw = " \t" + raw + "\r\n "
		padded, paddedReason := readValue(v)
		if !slices.Equal(padded, list) || (reason == "") != (paddedReason == "") {
			t.Errorf("%q stands for %v (%s), with white space around for %v (%s)", raw, list, reason, padded,
				paddedReason)
		}
	})
}
