package address

import (
	"errors"
	"strings"
	"testing"
)

func TestParseLiteral(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"user@example.com", "user@example.com"},
		{"(p)@example.com", `"(p)"@example.com`},
		{"Ann (P) <x>@Example.com", `"ann (p) <x>"@example.com`},
		{`a\b@example.com`, `"a\\b"@example.com`},
		{`us"er@example.com`, `"us\"er"@example.com`},
		{`"user"@example.com`, `"\"user\""@example.com`},
		{"a@b@example.com", `"a@b"@example.com`},
		{"a,b;c:d@example.com", `"a,b;c:d"@example.com`},
		{"Straße@München.example", "strasse@xn--mnchen-3ya.example"},
		{strings.Repeat("a", 555) + "@example.example", strings.Repeat("a", 555) + "@example.example"},
		{strings.Repeat("(", 554) + "@example.example", ""}, // the quotes make it too long
		{"@example.com", ""},
		{"user", ""},
		{"user@", ""},
		{"user@exa mple.com", ""},
		{"us\x00er@example.com", ""},
		{"us\u0085er@example.com", ""},
		{"us\xffer@example.com", ""},
		{strings.Repeat("a", 5000) + "@example.com", ""},
		{"", ""},
	} {
		got, err := ParseLiteral(c.in)
		if got.String() != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseLiteral(%.60q) = %q, %v, want %q", c.in, got, err, c.want)
		}
		if again, _ := Parse(got.String()); err == nil && again != got {
			t.Errorf("%q is read again as %q", got, again)
		}
	}
}

func TestInvisible(t *testing.T) {
	for _, r := range "\u00a0\u00ad\u061c\u115f\u1680\u180e\u2000\u2003\u200b\u200c\u200d" +
		"\u200e\u200f\u2028\u202a\u202e\u202f\u2060\u2066\u3000\u3164\ufeff\U000e0001" {
		if !Invisible(r) {
			t.Errorf("%U is visible", r)
		}
	}
	for _, r := range " a-_.@\t\nüßéа漢あ가\u0600\u0308\ufe0f😀" {
		if Invisible(r) {
			t.Errorf("%U is invisible", r)
		}
	}
	for text, want := range map[string]rune{"": 0, "ann": 0, "a\u200bn\u00a0n": '\u200b', "\ufeff": '\ufeff'} {
		if got, found := FirstInvisible(text); got != want || found != (want != 0) {
			t.Errorf("FirstInvisible(%q) = %U, %t", text, got, found)
		}
	}
}
