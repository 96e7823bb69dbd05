package address

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// An empty want means: not readable.
var mailboxes = []struct{ in, want string }{
	{"user@example.com", "user@example.com"},
	{"User@EXAMPLE.com", "user@example.com"},
	{" user@example.com\t", "user@example.com"},
	{"user@example.com.", "user@example.com"},
	{"john..doe@example.com", "john..doe@example.com"},
	{".john.@example.com", ".john.@example.com"},
	{`"john"@example.com`, "john@example.com"},
	{`"john.doe"@example.com`, "john.doe@example.com"},
	{`"john..doe"@example.com`, "john..doe@example.com"},
	{`john."doe"@example.com`, "john.doe@example.com"},
	{`"john doe"@example.com`, `"john doe"@example.com`},
	{`john doe@example.com`, `"john doe"@example.com`},
	{`"j\ohn"@example.com`, "john@example.com"},
	{`"j\"d"@example.com`, `"j\"d"@example.com`},
	{`"j\\d"@example.com`, `"j\\d"@example.com`},
	{`"a@b"@example.com`, `"a@b"@example.com`},
	{`a@b@example.com`, `"a@b"@example.com`},
	{`""@example.com`, `""@example.com`},
	{`user%other@example.com`, `user%other@example.com`},
	{`host!user@example.com`, `host!user@example.com`},
	{`user+ext@example.com`, `user+ext@example.com`},
	{`o'brien@example.com`, `o'brien@example.com`},
	{`user@[192.0.2.1]`, `user@[192.0.2.1]`},
	{`user@[IPv6:2001:DB8::1]`, `user@[ipv6:2001:db8::1]`},
	{`user@[IPv6:2001:db8:0:0:0:0:0:1]`, `user@[ipv6:2001:db8::1]`},
	{`user@[IPv6:2001:0db8::0001]`, `user@[ipv6:2001:db8::1]`},
	{`user@[IPv6:::ffff:192.0.2.1]`, `user@[ipv6:::ffff:192.0.2.1]`},
	{`user@[IPv6:::ffff:c000:201]`, `user@[ipv6:::ffff:192.0.2.1]`},
	{`user@[IPv6:fe80::1%eth0]`, `user@[ipv6:fe80::1%eth0]`},
	{`user@[IPv6:192.0.2.1]`, `user@[ipv6:192.0.2.1]`},
	{`user@[IPv6:nonsense]`, `user@[ipv6:nonsense]`},
	{`user@[2001:db8::0:1]`, `user@[2001:db8::0:1]`},
	{`user@[192.000.002.001]`, `user@[192.000.002.001]`},
	{`user@under_score.example`, `user@under_score.example`},
	{`user@localhost`, `user@localhost`},
	{`Jürgen@example.com`, `jürgen@example.com`},
	{"JU\u0308RGEN@example.com", "j\u00fcrgen@example.com"},
	{`STRASSE@example.com`, `strasse@example.com`},
	{`Straße@example.com`, `strasse@example.com`},
	{`ΣΊΣΥΦΟΣ@example.com`, "σίσυφοσ@example.com"},
	{`σίσυφος@example.com`, "σίσυφοσ@example.com"},
	{`user@München.example`, `user@xn--mnchen-3ya.example`},
	{`user@XN--MNCHEN-3YA.example`, `user@xn--mnchen-3ya.example`},
	{"user@mu\u0308nchen.example", `user@xn--mnchen-3ya.example`},
	{"user@example\u3002com", `user@example.com`},
	{strings.Repeat("a", 555) + "@example.example", strings.Repeat("a", 555) + "@example.example"},

	{"", ""},
	{"user", ""},
	{"@example.com", ""},
	{"user@", ""},
	{"user@.", ""},
	{"user@.example.com", ""},
	{"user@example..com", ""},
	{"user@exa mple.com", ""},
	{"user@example.com>", ""},
	{"<user@example.com>", ""},
	{"(c)user@example.com", ""},
	{`"user@example.com`, ""},
	{`us"er@example.com`, ""},
	{`us"e"r@example.com`, ""},
	{`user\@example.com`, ""},
	{"us\x00er@example.com", ""},
	{"us\r\ner@example.com", ""},
	{"us\x7fer@example.com", ""},
	{"us\u0085er@example.com", ""},
	{"\"us\u009fer\"@example.com", ""},
	{"\"us\\\ner\"@example.com", ""},
	{"us\xffer@example.com", ""},
	{"user@exa\xffmple.com", ""},
	{"user@exam\uff20ple.com", ""}, // full-width @ maps to @
	{"user@[]", ""},
	{"user@[192.0.2.1", ""},
	{"user@[a]b]", ""},
	{strings.Repeat("a", 556) + "@example.example", ""},
}

func TestParse(t *testing.T) {
	for _, c := range mailboxes {
		got, err := Parse(c.in)
		if got.String() != c.want {
			t.Errorf("Parse(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
		if (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrSyntax) {
			t.Errorf("Parse(%q): error %v", c.in, err)
		}
	}
}

func TestParts(t *testing.T) {
	for _, c := range []struct{ in, local, domain string }{
		{"user@example.com", "user", "example.com"},
		{`"a@b"@example.com`, `"a@b"`, "example.com"},
	} {
		a, err := Parse(c.in)
		if err != nil || a.Local() != c.local || a.Domain() != c.domain || a.IsZero() {
			t.Errorf("Parse(%q) has parts %q and %q (%v), want %q and %q", c.in, a.Local(), a.Domain(), err, c.local,
				c.domain)
		}
	}
	var zero Address
	if !zero.IsZero() || zero.Local() != "" || zero.Domain() != "" || zero.String() != "" {
		t.Errorf("the zero address is %q at %q", zero.Local(), zero.Domain())
	}
}

func TestParsePath(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"<user@example.com>", "user@example.com"},
		{"user@example.com", "user@example.com"},
		{"< user@example.com >", "user@example.com"},
		{"<@a,@b:user@example.com>", "user@example.com"},
		{"@a,@b:user@example.com", "user@example.com"},
		{`Name <user@example.com>`, "user@example.com"},
		{`Name <user@example.com`, "user@example.com"},
		{`"x"<nobody@example.com>`, "nobody@example.com"},
		{`"a<b"<nobody@example.com>`, "nobody@example.com"},
		{`<"a<b"@example.com>`, `"a<b"@example.com`},
		{`<"a>b"@example.com>`, `"a>b"@example.com`},
		{`<"a(b)"@example.com>`, `"a(b)"@example.com`},
		{`user(comment)@example.com`, "user@example.com"},
		{`<user@example.com(one(two))>`, "user@example.com"},
		{`user(@example.com`, ""},
		{`<User@Example.com.>`, "user@example.com"},
		{`"user@example.com"`, ""},
		{"<>", ""},
		{"", ""},
		{"@example.com", ""},
		{"@a,@b:", ""},
		{`\`, ""},
	} {
		got, err := ParsePath(c.in)
		if got.String() != c.want || (err != nil) != (c.want == "") {
			t.Errorf("ParsePath(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestDomainOf(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"user@Example.com", "example.com"},
		{`us"er@example.com.`, "example.com"},
		{"<@a:us er@example.com>", "example.com"},
		{"x@y@MÜNCHEN.example", "xn--mnchen-3ya.example"},
		{"user", ""},
		{"user@", ""},
		{"user@a b", "a"},
		{`us"er@example.com (a comment)`, "example.com"},
		{`<us"er@example.com(a@b)>`, "b"},
		{`"user@example.com"`, "example.com"},
		{`user@"example.com"`, "example.com"},
		{`user@ex\ample.com`, "example.com"},
		{`us"er@[192.0.2.1]>`, "[192.0.2.1]"},
		{`group:us"er@example.com;`, "example.com"},
		{"", ""},
	} {
		if got := DomainOf(c.in); got != c.want {
			t.Errorf("DomainOf(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// What Postfix makes of a domain that full case folding changes, and how the address
// that the client sent tells which it was.
// TestLongDomain: the text of a packet of 64 KB takes no time, whatever it has in it. Its mapping
// would take seconds.
func TestLongDomain(t *testing.T) {
	for _, unit := range []string{"ß", "例", "a\u0308", "\u00ad", "a", "é.", `"`, "\u1e9e\u0327"} {
		text := strings.Repeat(unit, 64<<10/len(unit)) + ".example"
		if domain, err := ParseDomain(text); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q…: ParseDomain gives %d bytes, %v", unit, len(domain), err)
		}
		if domain := DomainOf("a@" + text); unit != `"` && domain != "" {
			t.Errorf("%q…: DomainOf gives %d bytes", unit, len(domain))
		}
	}
	if got := DomainOf("a@" + strings.Repeat(`"`, 64<<10) + "corp.example (" + strings.Repeat("ß", 30_000)); got !=
		"corp.example" {
		t.Errorf("DomainOf of a short domain in a long text = %q", got)
	}
}

func TestWithDomainOf(t *testing.T) {
	for _, c := range []struct{ folded, asked, want string }{
		{"user@strasse.example", "User@Straße.example", "user@xn--strae-oqa.example"},
		{"user@strasse.example", "user@STRAẞE.example", "user@strasse.example"}, // UTS #46 makes ss of that one
		{"user@strasse.example", "user@strasse.example", "user@strasse.example"},
		{"user@strasse.example", "user@Strasse.example", "user@strasse.example"},
		{"user@strasse.example", "user@xn--strae-oqa.example", "user@xn--strae-oqa.example"},
		// folded in part: not Postfix
		{"user@strasse.faß.example", "user@straße.faß.example", "user@strasse.faß.example"},
		{"user@βόλοσ.example", "user@βόλος.example", "user@xn--nxasmm1c.example"},
		{"user@βόλοσ.example", "user@ΒΌΛΟΣ.example", "user@xn--nxasmq6b.example"},
		{"user@münchen.example", "user@MÜNCHEN.example", "user@xn--mnchen-3ya.example"},
		{"user@example.com", "user@straße.example", "user@example.com"},
		{"user@strasse.example", "user@faß.example", "user@strasse.example"},
		{"user@strasse.example", "", "user@strasse.example"},
		{"", "user@straße.example", ""},
		{"user@[192.0.2.1]", "user@straße.example", "user@[192.0.2.1]"},
		// the local part is the MTA's to say
		{"jürgen@strasse.example", "someone@straße.example", "jürgen@xn--strae-oqa.example"},
	} {
		folded, _ := Parse(c.folded)
		asked, _ := Parse(c.asked)
		want, _ := Parse(c.want)
		if got := folded.WithDomainOf(asked); got != want {
			t.Errorf("WithDomainOf(%q) of %q = %q, want %q", c.asked, c.folded, got, want)
		}
	}
}

// FuzzParse: what is read, printed and read again is the same; case and composition
// never matter; and what comes out can stand in a reply or a key.
func FuzzParse(f *testing.F) {
	for _, c := range mailboxes {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, text string) {
		DomainOf(text)
		if p, err := ParsePath(text); err == nil {
			checkCanonical(t, text, p)
		}
		a, err := Parse(text)
		if err != nil {
			if !a.IsZero() {
				t.Fatalf("Parse(%q) = %q with %v", text, a, err)
			}
			return
		}
		checkCanonical(t, text, a)
		checkFolded(t, text, a)
		if again, err := Parse(strings.ToLower(a.String())); err != nil || again != a {
			t.Fatalf("Parse(%q) = %q, in lower case %q, %v", text, a, again, err)
		}
	})
}

// checkFolded folds an address as Postfix does, as it stands or decomposed: it is the
// same mailbox then, in the same domain.
func checkFolded(t *testing.T, text string, a Address) {
	t.Helper()
	for _, form := range []string{norm.NFC.String(text), norm.NFD.String(text)} {
		asked, err := Parse(form)
		if err != nil || asked != a {
			t.Fatalf("Parse(%q) = %q, and of %q %q, %v", text, a, form, asked, err)
		}
		folded, err := Parse(foldCase(form))
		if got := folded.WithDomainOf(asked); err != nil || got != a {
			t.Fatalf("Parse(%q) = %q, folded before %q, %v", text, a, got, err)
		}
	}
}

func checkCanonical(t *testing.T, text string, a Address) {
	t.Helper()
	again, err := Parse(a.String())
	if err != nil || again != a {
		t.Fatalf("Parse(%q) = %q, read again %q, %v", text, a, again, err)
	}
	if len(a.String()) > MaxLength || strings.ContainsFunc(a.String(), unicode.IsControl) {
		t.Fatalf("Parse(%q) = %q: too long or with control characters", text, a)
	}
	if a.Local()+"@"+a.Domain() != a.String() {
		t.Fatalf("Parse(%q): parts %q and %q of %q", text, a.Local(), a.Domain(), a)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, text := range []string{"john.doe@example.com", "John.Doe@EXAMPLE.com", "jürgen@münchen.example"} {
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
