// Package address holds one canonical, comparable mailbox address, so that the
// index and the question about it meet in a single form.
//
// The canonical form of local@domain is
//
//   - the local part unquoted, in Unicode NFC with full case folding, and then
//     quoted again only where it must be (RFC 5321 section 4.1.2); anything that
//     looks like a dot-atom is opaque text, so "john..doe" stands as it is, because
//     directories hold such addresses and senders write to them;
//   - the domain in lower case, internationalised labels as A-labels (RFC 5890),
//     mapped by UTS #46 without the transitional rules; an address literal is kept
//     as text, an IPv6 address in the spelling of RFC 5952;
//   - at most MaxLength octets in UTF-8.
//
// # Which addresses are the same
//
// RFC 5321 section 2.4 lets a host treat local parts case-sensitively. Active
// Directory compares text by the sorting weights of Windows (MS-UCODEREF), without
// case, width, kana type and non-spacing marks, and so does every mail system on top of
// it. Postfix folds the case of a recipient, in full and with no regard to composition,
// before a milter sees it. So the case is folded in full here, or "Straße" would never
// be found again, which comes as "strasse"; to the directory the two are the same as
// well, and so are the forms of sigma.
//
// What differs in accents, width and the like stays different here, although the
// directory's own search finds both: é and e, ø and o, æ and ae, ı and i. The other way
// round the folding joins a few letters that the directory keeps apart (the micro sign
// and mu, the long s, the Greek letters with iota below, capital letters younger than
// its tables): Postfix has joined them already.
//
// Everything in this package is a pure function and safe for concurrent use.
package address

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLength is the most octets a canonical address may have: what Exchange accepts
// as an SMTP proxy address, far above the 320 that RFC 5321 section 4.5.3.1 allows.
const MaxLength = 571

// ErrSyntax says that a text is not a mailbox address; the wrapping error says why.
var ErrSyntax = errors.New("not a mailbox address")

// Address is one canonical mailbox. It is comparable, and fit as a map key: two
// addresses are the same mailbox exactly when they are ==. The zero value is no
// address.
type Address struct{ text string }

// String is the canonical text local@domain; empty for the zero value. It contains
// no control characters, but it may contain any other Unicode text.
func (a Address) String() string { return a.text }

// IsZero reports whether a is no address at all.
func (a Address) IsZero() bool { return a.text == "" }

// Local is the canonical local part, quoted where it has to be.
func (a Address) Local() string { return a.text[:max(strings.LastIndexByte(a.text, '@'), 0)] }

// In returns the same local part in another canonical domain; the zero value where a is
// zero, or where that is longer than MaxLength.
func (a Address) In(domain string) Address {
	if moved := a.Local() + "@" + domain; !a.IsZero() && len(moved) <= MaxLength {
		return Address{moved}
	}
	return Address{}
}

// Domain is the canonical domain: lower case, A-labels.
func (a Address) Domain() string { return a.text[strings.LastIndexByte(a.text, '@')+1:] }

// Parse reads one mailbox, local@domain, as a directory stores it or Postfix prints
// it. The domain is what follows the last @. It accepts more than RFC 5321 does
// (see the package comment), because refusing to read what a directory holds would
// refuse the mail of its owner. The error wraps ErrSyntax.
func Parse(text string) (Address, error) {
	text = strings.Trim(text, " \t")
	if len(text) > 4*MaxLength { // no form of a readable address is so much longer; bounds the work
		return Address{}, fmt.Errorf("%w: longer than %d octets", ErrSyntax, MaxLength)
	}
	if !utf8.ValidString(text) {
		return Address{}, fmt.Errorf("%w: not valid UTF-8", ErrSyntax)
	}
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return Address{}, fmt.Errorf("%w: no @", ErrSyntax)
	}
	content, err := unquote(text[:at])
	if err != nil {
		return Address{}, err
	}
	return compose(content, text[at+1:])
}

// unquote gives the content of a local part: quoted strings and quoted pairs
// resolved (RFC 5321 section 4.1.2 Quoted-string, RFC 5322 section 4.4 obs-local-part,
// where quoted and plain words alternate between dots).
func unquote(local string) (string, error) {
	if local == "" {
		return "", fmt.Errorf("%w: nothing before the @", ErrSyntax)
	}
	var content strings.Builder
	quoted := false
	for i := 0; i < len(local); i++ {
		switch c := local[i]; {
		case c < ' ' || c == 0x7f:
			return "", fmt.Errorf("%w: control character", ErrSyntax)
		case c == '\\':
			if i++; i == len(local) || local[i] < ' ' || local[i] == 0x7f {
				return "", fmt.Errorf("%w: backslash before nothing printable", ErrSyntax)
			}
			content.WriteByte(local[i])
		case c == '"':
			if !wordBoundary(local, i, quoted) {
				return "", fmt.Errorf("%w: quote in the middle of a word", ErrSyntax)
			}
			quoted = !quoted
		case !quoted && strings.IndexByte("()<>", c) >= 0:
			return "", fmt.Errorf("%w: %q outside quotes", ErrSyntax, c)
		default:
			content.WriteByte(c)
		}
	}
	if quoted {
		return "", fmt.Errorf("%w: quote not closed", ErrSyntax)
	}
	return content.String(), nil
}

// wordBoundary reports whether a quote at i may open (or, inside a quoted string,
// close) a word: words end at dots and at the ends of the local part.
func wordBoundary(local string, i int, closing bool) bool {
	if closing {
		return i+1 == len(local) || local[i+1] == '.'
	}
	return i == 0 || local[i-1] == '.'
}

// quote writes the content of a local part, in quotes only where it would not be
// read back as itself without them.
func quote(content string) string {
	if content != "" && !strings.ContainsAny(content, " \"(),:;<>@[\\]") {
		return content
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(content); i++ {
		if content[i] == '"' || content[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(content[i])
	}
	b.WriteByte('"')
	return b.String()
}
