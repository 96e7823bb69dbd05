package policy

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestUnknownUser(t *testing.T) {
	long := strings.Repeat("a", 64) + "@" + strings.Repeat("b", 255)
	for _, c := range []struct{ in, want string }{
		{"user@example.com", "user@example.com"},
		{`"two words"@example.com`, `"two words"@example.com`},
		{"100%@example.com", "100%@example.com"},
		{"%s%n%%@example.com", "%s%n%%@example.com"},
		{"jürgen@münchen.example", "jürgen@münchen.example"},
		{"", ""},
		{"a\r\nb@example.com", "a??b@example.com"},
		{"a\x00b@example.com", "a?b@example.com"},
		{"a\tb\x7f\x1b[31m@example.com", "a?b??[31m@example.com"},
		{"a\u0085b\u009b@example.com", "a?b?@example.com"},          // C1 controls
		{"a\u2028b\u2029@example.com", "a?b?@example.com"},          // separators
		{"a\u202eb\u200bc\ufeff@example.com", "a?b?c?@example.com"}, // format characters
		{"a\xff\xc3@example.com", "a??@example.com"},
		{"a\ufffd@example.com", "a\ufffd@example.com"},
		{long, long},
		{long + "c", long + "..."},
		{strings.Repeat("é", 161), strings.Repeat("é", 160) + "..."},
		{"x" + strings.Repeat("é", 160), "x" + strings.Repeat("é", 159) + "..."},
		{strings.Repeat("\x00", 4000), strings.Repeat("?", 320) + "..."},
	} {
		t.Run(c.want, func(t *testing.T) {
			want := "550 5.1.1 <" + c.want + ">: Recipient address rejected: User unknown"
			if got := unknownUser(c.in).String(); got != want {
				t.Errorf("unknownUser(%q) = %q, want %q", c.in, got, want)
			}
		})
	}
}

func TestReply(t *testing.T) {
	for _, c := range []struct {
		reply  Reply
		code   int
		prefix string
	}{
		{Reply{}, 0, "continue"},
		{unknownUser("u@d"), 550, "550 5.1.1 <u@d>: "},
		{removedRecently("u@d"), 450, "450 4.1.1 <u@d>: "},
		{CannotTell("u@d"), 451, "451 4.3.0 <u@d>: "},
	} {
		t.Run(c.prefix, func(t *testing.T) {
			if got := c.reply.Code(); got != c.code || c.reply.IsContinue() != (c.code == 0) ||
				!strings.HasPrefix(c.reply.String(), c.prefix) {
				t.Errorf("%q has code %d, want %d", c.reply, got, c.code)
			}
		})
	}
}

// FuzzReply checks that, for any address, the reply is one printable line of limited length, in a form that
// Postfix accepts.
func FuzzReply(f *testing.F) {
	for _, text := range []string{"user@example.com", "a\r\nb", "%", "%%%", "\x00", "é\xff", strings.Repeat("é%", 200),
		"\u2028\u202e"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, reply := range []Reply{unknownUser(text), removedRecently(text), CannotTell(text)} {
			line := reply.String()
			if strings.ContainsAny(line, "\r\n\x00") || !isPrintable(line) || !utf8.ValidString(line) ||
				len(line) > 480 {
				t.Fatalf("reply to %q: %q", text, line)
			}
			if c := reply.Code(); c != 450 && c != 451 && c != 550 || line[3] != ' ' || line[4] != line[0] {
				t.Fatalf("reply to %q: %q", text, line)
			}
		}
	})
}
