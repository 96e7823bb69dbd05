package milter

import (
	"strings"
	"testing"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/policy"
)

func TestResponse(t *testing.T) {
	if got := response(policy.Reply{}); got != gomilter.RespContinue {
		t.Errorf("continue is %v on the wire", got)
	}
	got := response(policy.CannotTell("5%%@d"))
	want := strings.ReplaceAll(policy.CannotTell("5%%@d").String(), "%%", "%%%%") + "\x00"
	if m := got.Response(); m.Code != 'y' || string(m.Data) != want || !got.Continue() {
		t.Errorf("on the wire: %c %q, want y %q", m.Code, m.Data, want)
	}
}

// unescape does to the text of a reply what Postfix does.
func unescape(text string) string { return strings.ReplaceAll(text, "%%", "%") }

// FuzzResponse checks that every reply arrives unchanged.
func FuzzResponse(f *testing.F) {
	for _, text := range []string{"user@example.com", "a\r\nb", "%", "%%%", "\x00", "é\xff", strings.Repeat("é%", 200),
		"\u2028\u202e"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line := policy.CannotTell(text).String()
		m := response(policy.CannotTell(text)).Response()
		if m.Code != 'y' || string(m.Data[len(m.Data)-1:]) != "\x00" {
			t.Fatalf("reply to %q on the wire: %c %q", text, m.Code, m.Data)
		}
		wire := string(m.Data[:len(m.Data)-1])
		if unescape(wire) != line || strings.Count(wire, "%")%2 != 0 {
			t.Fatalf("reply to %q: %q arrives as %q", text, line, unescape(wire))
		}
	})
}
