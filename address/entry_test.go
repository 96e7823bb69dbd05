package address

import (
	"fmt"
	"strings"
	"testing"
)

// TestCheckEntry: what can never match has its reason, and nothing else is objected to.
func TestCheckEntry(t *testing.T) {
	for _, c := range []struct{ name, entry, want string }{
		{"plain", "ann@x.example", ""},
		{"whole domain", "@x.example", ""},
		{"capital letters, final dot", "Ann@X.Example.", ""},
		{"unusual local parts", "!#$%&'*+-/=?^_`{|}~@x.example", ""},
		{"a slash in front", "/s=doe/p=org/@x.example", ""},
		{"X.400 without a slash in front", "s=doe/p=org@x.example", ""},
		{"quoted colon", `"smtp:ann"@x.example`, ""},
		{"quoted commas", `"a@b, c"@x.example`, ""},
		{"quoted blank", `"john doe"@x.example`, ""},
		{"address literal", "ann@[IPv6:2001:db8::1]", ""},
		{"underscore in the domain", "ann@_x.example", ""},
		{"international", "jürgen@bücher.example", ""},
		{"joiners of Persian", "می\u200cخواهم@x.example", ""},
		{"stars in a name", "b*team@x.example", ""},
		{"dots in a name", "john..doe@x.example", ""},
		{"extension", "ann+x=y@x.example", ""},
		{"no domain", "ann", ""},
		{"empty", "", ""},
		{"root only", "ann@", ""},

		{"smtp", "smtp:x@x.example", `the leading "smtp:" is not part of an address; write "x@x.example"`},
		{"SMTP", "SMTP:Ann@X.example", `the leading "SMTP:" is not part of an address; write "ann@x.example"`},
		{"sip", "sip:ann@x.example", `the leading "sip:"`},
		{"mailto", "mailto:ann@x.example", `write "ann@x.example"`},
		{"X400", "X400:c=us;a= ;p=org;o=x;s=doe@x.example",
			`the leading "X400:" is not part of an address; write user@domain`},
		{"x500", "x500:/o=org/cn=ann@x.example", `write user@domain`},
		{"twice", "smtp:smtp:ann@x.example", `the leading "smtp:" is not part of an address; write user@domain`},
		{"URL", "https://x.example/@ann@x.example", `the leading "https:"`},
		{"LDAP URL", "ldap://dc1/ou=x?mail=ann@x.example", `the leading "ldap:"`},
		{"regexp", "/^ann@x\\.example$/", "accept_patterns"},
		{"regexp with flags", "/^(.*)@x.example$/i", "accept_patterns"},
		{"regexp negated", "!/@x.example$/", "accept_patterns"},
		{"star", "*@x.example", `write "@x.example"`},
		{"dot star", ".*@x.example", `write "@x.example"`},
		{"anchored", "^.*@x.example$", `write "@x.example$"`},
		{"percent", "%@x.example", "wildcards"},
		{"star in the domain", "ann@*.x.example", `contains "*"`},
		{"whole star domain", "@*.x.example", `contains "*"`},
		{"end of a regexp", "ann@x.example$", `contains "$"`},
		{"slash in the domain", "ann@x.example/path", `contains "/"`},
		{"two with a comma", "ann@x.example,bob@x.example", "several addresses"},
		{"two with a semicolon", "ann@x.example;bob@x.example", "several addresses"},
		{"@ in a quoted word", `a."b@c"@x.example`, ""},
		{"escaped @", `a\@b@x.example`, ""},
		{"a colon later", "a b:c@x.example", ""},
		{"no-break space", "ann\u00a0@x.example", "U+00A0"},
		{"byte order mark inside", "\ufeffann@x.example", "U+FEFF"},
		{"zero width space", "ann@x.example\u200b", "U+200B"},
		{"soft hyphen", "an\u00adn@x.example", "U+00AD"},
		{"override", "\u202eann@x.example", "U+202E"},
		{"ideographic space", "ann\u3000@x.example", "U+3000"},
		{"long label", "ann@" + strings.Repeat("a", 64) + ".example", "longer than DNS allows"},
		{"long domain", "ann@" + strings.Repeat("abcdefg.", 32) + "example", "longer than DNS allows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := CheckEntry(c.entry)
			if got := fmt.Sprint(err); (err == nil) != (c.want == "") ||
				c.want != "" && !strings.Contains(got, c.want) {
				t.Errorf("CheckEntry(%q) = %v, want %q", c.entry, err, c.want)
			}
		})
	}
}

// FuzzCheckEntry: an address in canonical form, as the daemon itself prints it, is always a
// good entry, but for its domain: what it has to say is about text that people write.
func FuzzCheckEntry(f *testing.F) {
	for _, text := range []string{"ann@x.example", "smtp:a@b", "/a@b/", "*@b", `"a:b"@c`, "a,b@c@d", "@b", ":@b",
		"!/@/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := CheckEntry(text)
		if err != nil && err.Error() == "" {
			t.Errorf("CheckEntry(%q) gives no reason", text)
		}
		a, bad := Parse(text)
		if bad != nil {
			return
		}
		if again := CheckEntry(a.String()); err == nil && again != nil && !strings.HasPrefix(text, `"`) {
			t.Errorf("CheckEntry(%q) = nil, but of its canonical form %q %v", text, a, again)
		}
	})
}

func TestIn(t *testing.T) {
	for _, c := range []struct{ address, domain, want string }{
		{"Ann@X.example", "y.example", "ann@y.example"},
		{`"a b@c"@x.example`, "y.example", `"a b@c"@y.example`},
		{"ann@x.example", "xn--bcher-kva.example", "ann@xn--bcher-kva.example"},
		{strings.Repeat("a", MaxLength-len("@x.example")) + "@x.example", "longer.example", ""},
	} {
		a, err := Parse(c.address)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.In(c.domain).String(); got != c.want {
			t.Errorf("%q in %q = %q, want %q", c.address, c.domain, got, c.want)
		}
	}
	if got := (Address{}).In("x.example"); !got.IsZero() {
		t.Errorf("the zero value in a domain = %q", got)
	}
}

// TestCheckLiteral: what CheckLiteral reports is an address nevertheless.
func TestCheckLiteral(t *testing.T) {
	for _, c := range []struct{ name, entry, want string }{
		{"two with a space", "ann@x.example bob@x.example", "several addresses, or one @ too many"},
		{"two @", "ann@@x.example", "several addresses, or one @ too many"},
		{"two domains", "ann@x@x.example", "several addresses, or one @ too many"},
		{"two with a bar", "ann@x.example|bob@x.example", "several addresses, or one @ too many"},
		{"two with a slash", "ann@x.example/bob@x.example", "several addresses, or one @ too many"},
		{"two in the form of YAML", "info@x.example - bob@x.example", "several addresses, or one @ too many"},
		{"an @ before a whole domain", "@@x.example", "several addresses, or one @ too many"},
		{"a colon in front", ":ann@x.example", "the leading colon"},
		{"address", "ann@x.example", ""},
		{"whole domain", "@x.example", ""},
		{"no domain", "ann", ""},
		{"empty", "", ""},
		{"@ in a quoted word", `a."b@c"@x.example`, ""},
		{"@ in quotes", `"a@b"@x.example`, ""},
		{"escaped @", `a\@b@x.example`, ""},
		{"a colon later", "a b:c@x.example", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := CheckLiteral(c.entry)
			if c.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("CheckLiteral(%q): %v, want %q", c.entry, err, c.want)
			}
			if c.want != "" && CheckEntry(c.entry) != nil {
				t.Errorf("CheckEntry(%q): %v", c.entry, CheckEntry(c.entry))
			}
		})
	}
}
