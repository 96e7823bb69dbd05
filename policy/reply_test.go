package milter

import (
	"strings"
	"testing"
	"unicode/utf8"

	gomilter "github.com/emersion/go-milter"
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
		want := "550 5.1.1 <" + c.want + ">: Recipient address rejected: User unknown"
		if got := unknownUser(c.in).String(); got != want {
			t.Errorf("unknownUser(%q) = %q, want %q", c.in, got, want)
		}
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
		{cannotTell("u@d"), 451, "451 4.3.0 <u@d>: "},
	} {
		if got := c.reply.Code(); got != c.code || c.reply.IsContinue() != (c.code == 0) || !strings.HasPrefix(c.reply.String(), c.prefix) {
			t.Errorf("%q has code %d, want %d", c.reply, got, c.code)
		}
	}
}

func TestResponse(t *testing.T) {
	if got := (Reply{}).response(); got != gomilter.RespContinue {
		t.Errorf("continue is %v on the wire", got)
	}
	got := unknownUser("5%%@d").response()
	want := "550 5.1.1 <5%%%%@d>: Recipient address rejected: User unknown\x00"
	if m := got.Response(); m.Code != 'y' || string(m.Data) != want || !got.Continue() {
		t.Errorf("on the wire: %c %q, want y %q", m.Code, m.Data, want)
	}
}

// unescape is what Postfix does to the text of a reply.
func unescape(text string) string { return strings.ReplaceAll(text, "%%", "%") }

// FuzzReply: whatever an address holds, the reply is one printable line, not too
// long, of the form that Postfix accepts, and arrives as we meant it.
func FuzzReply(f *testing.F) {
	for _, text := range []string{"user@example.com", "a\r\nb", "%", "%%%", "\x00", "é\xff", strings.Repeat("é%", 200), "\u2028\u202e"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, reply := range []Reply{unknownUser(text), removedRecently(text), cannotTell(text)} {
			line := reply.String()
			if strings.ContainsAny(line, "\r\n\x00") || !isPrintable(line) || !utf8.ValidString(line) || len(line) > 480 {
				t.Fatalf("reply to %q: %q", text, line)
			}
			if c := reply.Code(); c != 450 && c != 451 && c != 550 || line[3] != ' ' || line[4] != line[0] {
				t.Fatalf("reply to %q: %q", text, line)
			}
			m := reply.response().Response()
			if m.Code != 'y' || string(m.Data[len(m.Data)-1:]) != "\x00" {
				t.Fatalf("reply to %q on the wire: %c %q", text, m.Code, m.Data)
			}
			wire := string(m.Data[:len(m.Data)-1])
			if unescape(wire) != line || strings.Count(wire, "%")%2 != 0 {
				t.Fatalf("reply to %q: %q arrives as %q", text, line, unescape(wire))
			}
		}
	})
}
