package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown limits the bytes of an address in a reply. The longest address of RFC 5321 section 4.5.3.1 fits, and
// the line stays well below the 512 bytes of section 4.5.3.1.5.
const maxShown = 320

// Reply is the SMTP reply to a recipient. The zero value is continue. A Reply is comparable. It is always safe
// to send: one printable line of limited length.
type Reply struct {
	text      string // "550 5.1.1 ..."; empty means continue
	from, end int    // position of the address in text
}

// IsContinue reports whether the milter accepts the recipient.
func (r Reply) IsContinue() bool { return r.text == "" }

// Code returns the SMTP reply code, or 0 for continue.
func (r Reply) Code() int {
	if r.text == "" {
		return 0
	}
	return int(r.text[0]-'0')*100 + int(r.text[1]-'0')*10 + int(r.text[2]-'0')
}

// Outcome returns the effect of the reply on the recipient.
func (r Reply) Outcome() Outcome {
	switch code := r.Code(); {
	case code == 0:
		return Accepted
	case code >= 500:
		return Refused
	}
	return Deferred
}

// String returns the line that the client receives, or "continue".
func (r Reply) String() string {
	if r.text == "" {
		return "continue"
	}
	return r.text
}

// WithAddress returns the line with text instead of the address. Use it for logs only: text is not made
// printable.
func (r Reply) WithAddress(text string) string {
	if r.text == "" {
		return r.String()
	}
	return r.text[:r.from] + text + r.text[r.end:]
}

// unknownUser returns the reply of Postfix to an address that is not in its tables, with
// show_user_unknown_table_name = no. RFC 3463 5.1.1: bad destination mailbox address.
func unknownUser(text string) Reply {
	return about("550 5.1.1 <", text, ">: Recipient address rejected: User unknown")
}

// removedRecently returns the reply to an address that was removed a short while ago. It does not reveal that
// the address has existed.
func removedRecently(text string) Reply {
	return about("450 4.1.1 <", text,
		">: Recipient address rejected: Temporarily not available, please try again later")
}

// CannotTell returns the reply for a decision that cannot be made. RFC 3463 4.3.0: other mail system status.
func CannotTell(text string) Reply {
	return about("451 4.3.0 <", text, ">: Recipient address cannot be checked at the moment, please try again later")
}

// tooMany returns the reply to clients that guess addresses. RFC 5321 section 7.8 permits a server to end the
// connection with 421. RFC 3463 has x.7.0 and x.7.1 for security and policy reasons.
func tooMany(code, text string) Reply {
	return about(code+" <", text, ">: Recipient address rejected: Too many unknown recipients, please try again later")
}

// about inserts text between two constants, in printable form.
func about(before, text, after string) Reply {
	shown := printable(text, maxShown)
	return Reply{before + shown + after, len(before), len(before) + len(shown)}
}

// printable replaces unprintable characters by "?": control characters, format characters such as bidirectional
// overrides, line and paragraph separators, and bytes that are not UTF-8. It cuts text off after at most limit
// bytes, at a character boundary, and then appends three dots.
func printable(text string, limit int) string {
	if len(text) <= limit && isPrintable(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); !unicode.IsPrint(r) || r == utf8.RuneError && size == 1 {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			b.WriteString("...")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// isPrintable reports whether printable would return text unchanged, except for its length.
func isPrintable(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			return utf8.ValidString(text) &&
				!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
		}
		if text[i] < ' ' || text[i] == 0x7f {
			return false
		}
	}
	return true
}
