package address

import "testing"

// An empty want means: there is no extension.
var extensions = []struct{ delimiters, in, want string }{
	{"+", "user+ext@example.com", "user@example.com"},
	{"+", "User+EXT@Example.com", "user@example.com"},
	{"+", "user+@example.com", "user@example.com"},
	{"+", "user+a+b@example.com", "user@example.com"},
	{"+", "user++b@example.com", "user@example.com"},
	{"+", `"user+ext"@example.com`, "user@example.com"},
	{"+", `"two words+ext"@example.com`, `"two words"@example.com`},
	{"+", `"user+two words"@example.com`, "user@example.com"},
	{"+", `"a\"b+c"@example.com`, `"a\"b"@example.com`},
	{"+", `"us\+er"@example.com`, "us@example.com"},
	{"+", `"a@b+c"@example.com`, `"a@b"@example.com`},
	{"+", "jürgen+ext@münchen.example", "jürgen@xn--mnchen-3ya.example"},
	{"+", "user@example.com", ""},
	{"+", "+user@example.com", ""},
	{"+", "++user@example.com", ""},
	{"+", `"+user"@example.com`, ""},
	{"+", "+user+ext@example.com", ""}, // the first delimiter decides, and it is in front
	{"+", "user@a+b.example", ""},
	{"+", "user-ext@example.com", ""},
	{"+", "owner-list+ext@example.com", "owner-list@example.com"},
	{"+", "list-request+ext@example.com", "list-request@example.com"},
	{"+-", "user-ext@example.com", "user@example.com"},
	{"+-", "user-a+b@example.com", "user@example.com"},
	{"+-", "user+a-b@example.com", "user@example.com"},
	{"+-", "owner-list@example.com", ""},
	{"+-", "Owner-List+ext@example.com", ""},
	{"+-", "list-request@example.com", ""},
	{"+-", "list-REQUEST@example.com", ""},
	{"+-", "list+x-request@example.com", ""},
	{"-", "-request@example.com", ""},
	{"-", "a-request-b@example.com", "a@example.com"},
	{"-", "mailer-daemon@example.com", ""},
	{"-", "MAILER-DAEMON@example.com", ""},
	{"-", "double-bounce@example.com", ""},
	{"-", "double-bounce-x@example.com", "double@example.com"},
	{"=", "user=ext@example.com", "user@example.com"},
	{"\\", `"a\\b"@example.com`, "a@example.com"},
	{"\"", `"a\"b"@example.com`, "a@example.com"},
	{"\"", `"a b"@example.com`, ""}, // quotes are not content
	{"", "user+ext@example.com", ""},
}

func TestWithoutExtension(t *testing.T) {
	for _, c := range extensions {
		a, err := Parse(c.in)
		if err != nil {
			t.Fatal(err)
		}
		got, found := a.WithoutExtension(c.delimiters)
		if got.String() != c.want || found != (c.want != "") {
			t.Errorf("WithoutExtension(%q) of %q = %q, %v, want %q", c.delimiters, c.in, got, found, c.want)
		}
	}
	if got, found := (Address{}).WithoutExtension("+"); found || !got.IsZero() {
		t.Errorf("WithoutExtension of no address = %q, %v", got, found)
	}
}

// FuzzWithoutExtension: what is left is a mailbox in canonical form, of the same
// domain, and has no extension itself.
func FuzzWithoutExtension(f *testing.F) {
	for _, c := range extensions {
		f.Add(c.in, c.delimiters)
	}
	f.Fuzz(func(t *testing.T, text, delimiters string) {
		for i := 0; i < len(delimiters); i++ {
			if delimiters[i] >= 0x80 {
				return
			}
		}
		a, err := Parse(text)
		if err != nil {
			return
		}
		bare, found := a.WithoutExtension(delimiters)
		if !found {
			return
		}
		checkCanonical(t, text, bare)
		if bare.Domain() != a.Domain() || len(bare.String()) >= len(a.String()) {
			t.Fatalf("WithoutExtension(%q) of %q = %q", delimiters, a, bare)
		}
		if again, found := bare.WithoutExtension(delimiters); found {
			t.Fatalf("WithoutExtension(%q) of %q = %q, and of that %q", delimiters, a, bare, again)
		}
	})
}
