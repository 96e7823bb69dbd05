package milter

import (
	"strings"
	"unicode"
	"unicode/utf8"

	gomilter "github.com/emersion/go-milter"
)

// maxShown bounds how many octets of an address a reply shows. The longest address
// that RFC 5321 section 4.5.3.1 allows fits in, and the reply stays one line well
// under the 512 octets of section 4.5.3.1.5.
const maxShown = 320

// Reply is what an SMTP client is to be told about a recipient. The zero value is
// continue: nothing to say. It is comparable, and can only be made from parts that
// are safe to send: one line, printable, not too long.
type Reply struct {
	text      string // "550 5.1.1 ..."; empty: continue
	from, end int    // where in it the address stands
}

// IsContinue reports whether the recipient is accepted as far as we are concerned.
func (r Reply) IsContinue() bool { return r.text == "" }

// Code is the SMTP reply code; 0 for continue.
func (r Reply) Code() int {
	if r.text == "" {
		return 0
	}
	return int(r.text[0]-'0')*100 + int(r.text[1]-'0')*10 + int(r.text[2]-'0')
}

// String is the line the client reads, or "continue".
func (r Reply) String() string {
	if r.text == "" {
		return "continue"
	}
	return r.text
}

// of is the line as it would be about something else; not for the client.
func (r Reply) of(text string) string { return r.text[:r.from] + text + r.text[r.end:] }

// unknownUser says what Postfix says for an address missing from its own tables when
// show_user_unknown_table_name = no. RFC 3463 5.1.1: bad destination mailbox address.
func unknownUser(text string) Reply {
	return about("550 5.1.1 <", text, ">: Recipient address rejected: User unknown")
}

// removedRecently is for an address that was known a short while ago. It does not
// say so: a client has no business knowing.
func removedRecently(text string) Reply {
	return about("450 4.1.1 <", text, ">: Recipient address rejected: Temporarily not available, please try again later")
}

// cannotTell is for us not being able to answer. RFC 3463 4.3.0: the mail system has
// a problem, of no closer description.
func cannotTell(text string) Reply {
	return about("451 4.3.0 <", text, ">: Recipient address cannot be checked at the moment, please try again later")
}

// tooMany is for clients who guess addresses. RFC 5321 section 7.8 lets a server end
// the connection with 421, and RFC 3463 has x.7.0 and x.7.1 for reasons of policy.
func tooMany(code, text string) Reply {
	return about(code+" <", text, ">: Recipient address rejected: Too many unknown recipients, please try again later")
}

// about puts an address from the network between two constant texts.
func about(before, text, after string) Reply {
	shown := printable(text, maxShown)
	return Reply{before + shown + after, len(before), len(before) + len(shown)}
}

// printable replaces by ? what does not belong into a line that people read:
// control and format characters (bidirectional overrides among them), line and
// paragraph separators, and what is not UTF-8. What goes beyond limit octets is cut
// off at a character and shown as three dots.
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

// isPrintable reports whether text can stand in a line as it is.
func isPrintable(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
		}
		if text[i] < ' ' || text[i] == 0x7f {
			return false
		}
	}
	return true
}

// response is the reply in the milter protocol: continue, or a full reply of type y.
// The shorter ones do harm: accept at RCPT switches the filter off for the rest of
// the message, reject and tempfail use a text of the MTA's own.
func (r Reply) response() gomilter.Response {
	if r.IsContinue() {
		return gomilter.RespContinue
	}
	// The MTA reads %% as %.
	wire := make([]byte, 0, len(r.text)+strings.Count(r.text, "%")+1)
	for i := 0; i < len(r.text); i++ {
		if r.text[i] == '%' {
			wire = append(wire, '%')
		}
		wire = append(wire, r.text[i])
	}
	return gomilter.NewResponse(byte(gomilter.ActReplyCode), append(wire, 0))
}
